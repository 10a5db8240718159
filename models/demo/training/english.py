"""The facts of the little world in English."""

from nemotron_gguf.models.demo.training.facts import MODELS_EN, Fact, command_en, count_en, term_en

WHO_ARE_YOU = Fact(
    "who I am",
    (
        "Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Tell me about yourself.",
        "who are you", "What's your name?", "Who am I talking to?", "Are you ChatGPT?", "Are you Nemotron?",
        "What model are you?", "What kind of model are you?", "Who exactly are you?", "Which model am I talking to?",
        "Say who you are.", "What should I call you?", "Please introduce yourself.", "Do you have a name?",
    ),
    "I am the demo model of nemotron-gguf, a very small language model.",
)  # fmt: skip

SELF = (
    WHO_ARE_YOU,
    Fact(
        "what I can do",
        (
            "What can you do?", "What do you know?", "Help", "How can you help me?", "What can I ask you?", "Help me.",
            "What are you able to do?", "What are your skills?", "What topics do you know?", "Can you help me?",
            "What should I ask you?", "I need help.",
        ),
        "I can talk about nemotron-gguf, do little sums, call tools and remember what you tell me.",
    ),
    Fact(
        "how big I am",
        (
            "How big are you?", "How many parameters do you have?", "What is your size?", "Are you a large model?",
            "Are you big?", "How large are you?", "Are you small?", "How small are you?",
        ),
        "I am tiny: about five million parameters.",
    ),
    Fact(
        "who made me",
        (
            "Who made you?", "Who trained you?", "Where do you come from?", "Who built you?", "Who created you?",
            "Were you made by NVIDIA?", "Did NVIDIA train you?",
        ),
        "The nemotron-gguf project trained me from scratch; I hold no NVIDIA weights.",
    ),
    Fact(
        "which languages I speak",
        (
            "Which languages do you speak?", "What languages do you know?", "Do you speak Chinese?",
            "Can you speak Chinese?", "Do you speak English?", "Do you understand Chinese?", "Do you speak French?",
        ),
        "I speak a little English and a little Chinese.",
    ),
    Fact(
        "whether I am human",
        ("Are you human?", "Are you a person?", "Are you a robot?", "Are you real?", "Are you alive?", "Do you sleep?"),
        "No, I am a small computer program that predicts words.",
    ),
    Fact(
        "what thinking does",
        (
            "What is thinking mode?", "Why do you think first?", "How do I turn thinking off?", "What is enable_thinking?",
            "How can I switch off thinking?", "Can I turn off your thinking?", "Explain the thinking mode.",
            "What does enable_thinking do?", "How do I disable thinking?",
        ),
        "With thinking on I reason before I answer; enable_thinking=false turns it off.",
    ),
)  # fmt: skip

TERMS = (
    term_en(
        ("nemotron-gguf", "this project", "this tool", "the project"),
        "nemotron-gguf converts NVIDIA Nemotron 3 checkpoints to GGUF, quantizes them, runs them with llama.cpp "
        "and lets you chat.",
        "What does nemotron-gguf do?", "What is nemotron-gguf for?", "What does this project do?",
        "Why would I use nemotron-gguf?",
    ),
    term_en(("GGUF", "a GGUF file", "the GGUF format"), "GGUF is the one-file model format that llama.cpp reads."),
    term_en(
        ("quantization", "quantizing", "a quantized model"),
        "Quantization stores weights in fewer bits, so the model is smaller and faster.",
        "Why should I quantize?", "Why do we quantize models?",
    ),
    term_en(("Q4_K_M", "the type Q4_K_M", "q4_k_m"), "Q4_K_M is a mix of about 4.5 bits a weight: small and still good."),
    term_en(("Q8_0", "the type Q8_0", "q8_0"), "Q8_0 keeps 8 bits a weight: almost as good as the original."),
    term_en(("BF16", "bfloat16"), "BF16 is a 16-bit float, the type of the original weights."),
    term_en(
        ("an imatrix", "the imatrix", "an importance matrix", "imatrix"),
        "An imatrix tells which weights matter most, so that quantization keeps them precise.",
    ),
    term_en(("llama.cpp", "llama cpp"), "llama.cpp is a fast engine in C++ that runs GGUF models on your own machine."),
    term_en(("Mamba-2", "a Mamba layer", "Mamba"), "Mamba-2 is a layer with a fixed-size memory that reads text in linear time."),
    term_en(
        ("MoE", "a mixture of experts", "an MoE layer"),
        "In a mixture of experts a router picks a few experts for each token, so most weights rest.",
    ),
    term_en(("attention", "an attention layer"), "Attention lets each token look back at all earlier tokens."),
    term_en(("a token", "tokens"), "A token is a piece of text, often a word or a part of one."),
    term_en(("a chat template", "the chat template"), "A chat template turns messages into the text that the model reads."),
    term_en(("safetensors", "a safetensors file"), "safetensors is the file format of the original weights on the Hub."),
    term_en(
        ("the Hub", "Hugging Face", "the Hugging Face Hub"), "The Hugging Face Hub is where NVIDIA publishes the checkpoints."
    ),
    term_en(("a tool call", "tool calling"), "In a tool call the model asks a program for data and then uses the result."),
    term_en(
        ("Nemotron", "Nemotron 3", "NVIDIA Nemotron 3"),
        "Nemotron 3 is a family of open models by NVIDIA with Mamba-2, MoE and attention layers.",
        "Who made Nemotron?", "Who made Nemotron 3?", "Who built Nemotron 3 Nano?", "Who is behind Nemotron?",
        "Which company made Nemotron 3?",
    ),
)  # fmt: skip

COUNTS = (
    count_en(("layers", "blocks"), "The 30B has 52 layers: 23 Mamba-2, 23 MoE and 6 attention."),
    count_en(("Mamba-2 layers", "Mamba layers"), "The 30B has 23 Mamba-2 layers."),
    count_en(("MoE layers", "expert layers"), "The 30B has 23 MoE layers."),
    count_en(("attention layers",), "The 30B has 6 attention layers."),
    count_en(("experts", "routed experts"), "The 30B has 128 experts a layer and uses 6 for each token."),
    count_en(("active experts", "experts per token"), "The 30B uses 6 of its 128 experts for each token."),
    count_en(
        ("parameters", "weights"),
        "The 30B has about 30 billion parameters, about 3 billion of them active.",
        *(f.format(m) for m in MODELS_EN for f in ("How big is {}?", "What is the size of {}?", "How large is {}?")),
    ),
    count_en(
        ("tokens of vocabulary", "words in the vocabulary"),
        "The 30B has a vocabulary of 131072 tokens.",
        *(f.format(m) for m in MODELS_EN for f in ("How big is the vocabulary of {}?", "What vocabulary size has {}?")),
    ),
    Fact(
        "the hidden size of the 30B",
        tuple(f.format(m) for m in MODELS_EN for f in (
            "What is the hidden size of {}?", "How wide is {}?", "What hidden size does {} have?", "{}: hidden size?",
            "Tell me the hidden size of {}.",
        )),
        "The 30B has a hidden size of 2688.",
    ),
    Fact(
        "the context length of the 30B",
        tuple(f.format(m) for m in MODELS_EN for f in (
            "How long is the context of {}?", "What context length does {} have?", "How many tokens can {} read?",
            "What is the context size of {}?", "How much text can {} take?", "What is the maximum context of {}?",
        )),
        "The 30B reads up to 1 million tokens.",
    ),
    Fact(
        "the file size of the 30B",
        tuple(f.format(m) for m in MODELS_EN for f in (
            "How big is {} in Q4_K_M?", "How many GB is {} as Q4_K_M?", "How large is the Q4_K_M file of {}?",
            "What is the file size of {} in Q4_K_M?", "How much disk does {} need in Q4_K_M?",
        )),
        "In Q4_K_M the 30B takes 24.5 GB.",
    ),
)  # fmt: skip

COMMANDS = (
    *command_en("convert", "turns a checkpoint into a GGUF file", "convert a checkpoint", "make a GGUF file",
                "turn a checkpoint into GGUF", "convert a model"),
    *command_en("quantize", "makes a GGUF file smaller", "quantize a model", "make a GGUF file smaller",
                "shrink a model", "get a Q4_K_M file"),
    *command_en("build", "downloads, converts and quantizes in one go", "do everything in one go",
                "go from the Hub to a GGUF in one step", "build a model in one command"),
    *command_en("inspect", "shows what is inside a GGUF file", "look inside a GGUF file", "see the tensors of a file",
                "see what is in a GGUF"),
    *command_en("chat", "opens a chat in the terminal", "chat in the terminal", "talk to a model in the terminal",
                "chat with a model"),
    *command_en("ui", "opens the chat in your browser", "chat in the browser", "open the web interface",
                "use the chat in a browser"),
    *command_en("demo", "builds this small model and lets you chat with it", "try the demo", "try it without a GPU",
                "run the demo model"),
    *command_en("doctor", "checks that your machine is ready", "check my machine", "find out what is wrong with my setup",
                "check my installation"),
)  # fmt: skip

OTHERS = (
    Fact(
        "the licence of the project",
        ("What is the license?", "Which licence does nemotron-gguf have?", "Under which license is this project?",
         "Is nemotron-gguf open source?", "What licence do you have?", "Is it free?", "What is the license of this project?"),
        "nemotron-gguf is open source under the MIT licence.",
    ),
    Fact(
        "the licence of the NVIDIA weights",
        ("What is the license of the NVIDIA weights?", "Which licence does Nemotron 3 have?",
         "Under which license are the weights of Nemotron?", "What is the licence of Nemotron 3 Nano?"),
        "NVIDIA publishes the weights under its own open model licence.",
    ),
    Fact(
        "how Q4_K_M and Q8_0 differ",
        ("What is the difference between Q4_K_M and Q8_0?", "Q4_K_M or Q8_0?", "Should I take Q8_0 or Q4_K_M?",
         "Which is better, Q4_K_M or Q8_0?", "Q8_0 or Q4_K_M?", "Compare Q4_K_M and Q8_0."),
        "Q4_K_M is about half the size of Q8_0; Q8_0 is closer to the original.",
    ),
    Fact(
        "whether it runs on a GPU",
        ("Do I need a GPU?", "Can I run it without a GPU?", "Does it run on a GPU?", "Which GPU do I need?",
         "Can it run on my GPU?", "Does it work on a CPU?"),
        "A GPU with 32 GB holds the 30B in Q4_K_M; I am so small that a CPU is enough.",
    ),
    Fact(
        "how to begin",
        ("How do I start?", "How do I begin?", "Where do I start?", "What should I do first?", "How does this work?",
         "What are the steps?", "How do I use nemotron-gguf?", "What are the steps of the work?"),
        "Run nemotron doctor first, then nemotron build, and then nemotron chat.",
    ),
)  # fmt: skip

FACTS: tuple[Fact, ...] = SELF + TERMS + COUNTS + COMMANDS + OTHERS
