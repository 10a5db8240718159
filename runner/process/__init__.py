"""The front of the engine: the messages between two processes, and whoever starts, asks and restarts the other."""
