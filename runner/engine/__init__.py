"""The engine: libllama in a process of its own, which may die without taking anybody with it."""
