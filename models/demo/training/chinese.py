"""The facts of the little world in Chinese."""

from nemotron_gguf.models.demo.training.facts import MODELS_ZH, Fact, command_zh, count_zh, term_zh

SELF = (
    Fact(
        "我是谁",
        ("你是谁？", "你叫什么名字？", "介绍一下你自己。", "你是什么模型？", "你是什么？", "请自我介绍。", "你的名字是什么？",
         "你是ChatGPT吗？", "你是Nemotron吗？", "请介绍一下自己。", "我在和谁说话？", "你到底是谁？", "你究竟是什么？", "说说你自己。",
         "你是哪个模型？", "怎么称呼你？"),
        "我是nemotron-gguf的演示模型，一个非常小的语言模型。",
    ),
    Fact(
        "我会做什么",
        ("你会做什么？", "你能做什么？", "你知道什么？", "我可以问你什么？", "你能帮我吗？", "帮帮我。", "你会什么？", "你有什么用？",
         "你能帮我做什么？", "你有哪些本领？", "你都会些什么？", "你擅长什么？", "你可以做哪些事？"),
        "我可以介绍nemotron-gguf，做简单的加减法，调用工具，也能记住你说的话。",
    ),
    Fact(
        "我有多大",
        ("你有多大？", "你有多少参数？", "你是大模型吗？", "你的参数量是多少？", "你很小吗？", "你的规模有多大？"),
        "我很小：大约五百万个参数。",
    ),
    Fact(
        "谁做了我",
        ("谁做了你？", "谁训练了你？", "你是谁开发的？", "你从哪里来？", "你是NVIDIA训练的吗？", "谁创造了你？", "你是谁做的？"),
        "nemotron-gguf项目从零训练了我，我不含NVIDIA的权重。",
    ),
    Fact(
        "我会哪些语言",
        ("你会说什么语言？", "你会哪些语言？", "你会说中文吗？", "你懂英语吗？", "你会说英语吗？", "你能讲中文吗？"),
        "我会一点中文和一点英语。",
    ),
    Fact(
        "我是不是人",
        ("你是人吗？", "你是真人吗？", "你是机器人吗？", "你有生命吗？", "你需要睡觉吗？"),
        "不，我是一个预测词语的小程序。",
    ),
    Fact(
        "思考模式",
        ("什么是思考模式？", "怎么关闭思考？", "enable_thinking是什么？", "为什么你先思考？", "可以关掉思考吗？", "如何关闭思考模式？"),
        "打开思考时我先推理再回答；enable_thinking=false可以关闭它。",
    ),
)  # fmt: skip

TERMS = (
    term_zh(
        ("nemotron-gguf", "这个项目", "这个工具", "本项目"),
        "nemotron-gguf把NVIDIA的Nemotron 3模型转换成GGUF，再量化，用llama.cpp运行并聊天。",
        "nemotron-gguf有什么用？", "这个项目是做什么的？", "nemotron-gguf能做什么？", "这个工具有什么用？",
    ),
    term_zh(("GGUF", "GGUF文件", "GGUF格式"), "GGUF是llama.cpp使用的单文件模型格式。"),
    term_zh(("量化", "模型量化"), "量化用更少的比特存储权重，让模型更小更快。", "为什么要量化？", "量化有什么好处？"),
    term_zh(("Q4_K_M", "q4_k_m"), "Q4_K_M每个权重约4.5比特：体积小，质量仍然好。"),
    term_zh(("Q8_0", "q8_0"), "Q8_0每个权重8比特：几乎和原模型一样好。"),
    term_zh(("BF16", "bfloat16"), "BF16是16位浮点数，也是原始权重的类型。"),
    term_zh(("imatrix", "重要性矩阵"), "imatrix说明哪些权重最重要，量化时就能保留它们的精度。"),
    term_zh(("llama.cpp",), "llama.cpp是用C++写的快速引擎，可以在自己的电脑上运行GGUF模型。"),
    term_zh(("Mamba-2", "Mamba", "Mamba层"), "Mamba-2是一种记忆大小固定的层，能以线性时间读文本。"),
    term_zh(("MoE", "混合专家", "MoE层"), "混合专家中，路由器为每个词元挑选少数专家，其余权重休息。"),
    term_zh(("注意力", "注意力层"), "注意力让每个词元都能回看前面的所有词元。"),
    term_zh(("词元", "token"), "词元是一小段文字，常常是一个词或词的一部分。"),
    term_zh(("聊天模板", "对话模板"), "聊天模板把消息变成模型读取的文本。"),
    term_zh(("safetensors",), "safetensors是Hub上原始权重的文件格式。"),
    term_zh(("Hub", "Hugging Face", "Hugging Face Hub"), "Hugging Face Hub是NVIDIA发布模型的地方。"),
    term_zh(("工具调用",), "工具调用就是模型向程序要数据，再使用结果。"),
    term_zh(
        ("Nemotron", "Nemotron 3", "NVIDIA Nemotron 3"),
        "Nemotron 3是NVIDIA的开放模型系列，由Mamba-2、MoE和注意力层组成。",
        "Nemotron是谁做的？", "谁开发了Nemotron 3？", "Nemotron 3是哪家公司的？", "Nemotron 3 Nano是谁做的？",
    ),
)  # fmt: skip

COUNTS = (
    count_zh(("层",), "30B有52层：23层Mamba-2，23层MoE，6层注意力。", "30B有多少个层？", "30B的层数是多少？"),
    count_zh(("层Mamba-2", "个Mamba层"), "30B有23层Mamba-2。"),
    count_zh(("层MoE", "个MoE层"), "30B有23层MoE。"),
    count_zh(("层注意力", "个注意力层"), "30B有6层注意力。"),
    count_zh(("个专家", "专家"), "30B每层有128个专家，每个词元使用6个。"),
    count_zh(("个活跃专家",), "30B的每个词元使用128个专家中的6个。", "30B每个词元用几个专家？", "每个词元使用多少专家？"),
    count_zh(
        ("参数", "个参数"),
        "30B约有300亿个参数，其中约30亿个活跃。",
        *(f.format(m) for m in MODELS_ZH for f in ("{}有多大？", "{}的规模有多大？", "{}的参数量是多少？")),
    ),
    Fact(
        "30B的词表大小",
        tuple(f.format(m) for m in MODELS_ZH for f in (
            "{}的词表有多大？", "{}的词表大小是多少？", "{}的词汇表有多少词元？", "请问{}的词表多大？",
        )),
        "30B的词表有131072个词元。",
    ),
    Fact(
        "30B的隐藏维度",
        tuple(f.format(m) for m in MODELS_ZH for f in ("{}的隐藏维度是多少？", "{}有多宽？", "{}的隐藏大小是多少？")),
        "30B的隐藏维度是2688。",
    ),
    Fact(
        "30B的上下文长度",
        tuple(f.format(m) for m in MODELS_ZH for f in (
            "{}的上下文有多长？", "{}的上下文长度是多少？", "{}能读多少词元？", "{}最多能读多长的文本？",
        )),
        "30B最多能读100万个词元。",
    ),
    Fact(
        "30B的文件大小",
        tuple(f.format(m) for m in MODELS_ZH for f in (
            "{}的Q4_K_M文件有多大？", "{}用Q4_K_M是多少GB？", "{}量化成Q4_K_M有多大？", "{}的Q4_K_M要占多少硬盘？",
        )),
        "30B的Q4_K_M文件是24.5 GB。",
    ),
)  # fmt: skip

COMMANDS = (
    *command_zh("convert", "把模型转换成GGUF文件", "转换模型", "得到GGUF文件", "把模型转换成GGUF"),
    *command_zh("quantize", "把GGUF文件变小", "量化模型", "把GGUF文件变小", "得到Q4_K_M文件"),
    *command_zh("build", "一步完成下载、转换和量化", "一步完成所有工作", "一个命令做完所有步骤"),
    *command_zh("inspect", "显示GGUF文件的内容", "查看GGUF文件", "看文件里的张量", "查看GGUF的内容"),
    *command_zh("chat", "在终端里打开聊天", "在终端里聊天", "在终端和模型对话", "和模型聊天"),
    *command_zh("ui", "在浏览器里打开聊天", "在浏览器里聊天", "打开网页界面"),
    *command_zh("demo", "构建这个小模型并和它聊天", "试用演示", "不用GPU试一试", "运行演示模型"),
    *command_zh("doctor", "检查你的电脑是否准备好", "检查我的电脑", "检查安装", "找出安装的问题"),
)  # fmt: skip

OTHERS = (
    Fact(
        "项目的许可证",
        ("许可证是什么？", "nemotron-gguf是什么许可证？", "这个项目开源吗？", "nemotron-gguf是开源的吗？", "它免费吗？",
         "这个项目用什么许可证？"),
        "nemotron-gguf是开源的，使用MIT许可证。",
    ),
    Fact(
        "NVIDIA权重的许可证",
        ("NVIDIA权重的许可证是什么？", "Nemotron 3用什么许可证？", "Nemotron 3 Nano的许可证是什么？"),
        "NVIDIA用自己的开放模型许可证发布权重。",
    ),
    Fact(
        "Q4_K_M和Q8_0的区别",
        ("Q4_K_M和Q8_0有什么区别？", "Q4_K_M还是Q8_0？", "该选Q8_0还是Q4_K_M？", "Q8_0和Q4_K_M哪个好？"),
        "Q4_K_M的大小约是Q8_0的一半；Q8_0更接近原模型。",
    ),
    Fact(
        "是否需要GPU",
        ("需要GPU吗？", "没有GPU能运行吗？", "我需要什么GPU？", "能在GPU上运行吗？", "能在CPU上运行吗？"),
        "32 GB的GPU放得下30B的Q4_K_M；我很小，CPU就够了。",
    ),
    Fact(
        "怎么开始",
        ("怎么开始？", "我该怎么开始？", "第一步做什么？", "怎么使用nemotron-gguf？", "有哪些步骤？", "从哪里开始？"),
        "先运行nemotron doctor，再运行nemotron build，然后运行nemotron chat。",
    ),
)  # fmt: skip

FACTS: tuple[Fact, ...] = SELF + TERMS + COUNTS + COMMANDS + OTHERS
