"""What a person touches: the command line (`cli`, its verbs in `files`, `talk`, `demo`, `doctor`) and the chat page."""
