"""What a model says as a conversation: the chat template, and the stream of an answer taken apart."""
