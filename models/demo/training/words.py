"""Words that fill the templates of the little world, and names made of syllables that nobody has heard before."""

import random

NAMES_EN = (
    "Ada Alan Alice Amir Anna Ben Bob Carla Carlos Chen Clara Daniel David Diego Elena Ella Emma Eric Eva Felix Finn Fiona "
    "Frank George Grace Hana Hannah Harry Helen Hugo Ian Ida Ines Iris Ivan Jack James Jane Jin John Jonas Julia Kai Karl "
    "Kate Kim Lara Laura Lea Leo Lily Linda Lisa Liam Lucas Lucy Luna Maja Marco Maria Mark Martin Mary Max Mei Mia Mila "
    "Mira Nadia Nick Nina Noah Nora Oliver Olga Omar Oscar Otto Paul Pedro Peter Petra Priya Rachel Raj Rita Robert Rosa "
    "Ruth Sam Sara Sofia Simon Sven Tara Theo Tim Tina Tom Uma Vera Victor Wendy Will Yan Yara Yuki Zoe"
).split()
SURNAMES_ZH = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN_ZH = "明华丽强芳伟静磊娜军洋勇艳杰涛超霞平刚英文玉海红梅雪云天宇晨阳婷月欣佳思雨浩然子小安乐"
CHARACTERS_ZH = (
    "宁波雪球晓东子平春夏秋冬山水风光星辰石木竹兰菊桃李松柏龙虎鹿鹤鱼鸟白黑红青金银铁铜米豆糖果茶酒花草叶根树林森江湖河"
    "海洋岛桥路门城镇村家园田土火灯电车船书画诗歌琴棋笔墨纸字文武良善美好新古大小多少长短高低东西南北中上下左右前后里外温"
    "州台合肥徐扬常嘉绍义乌珠汕惠泉漳南昌贵桂柳洛开封太原包头银川兰拉萨欧阳倩闪电雷雾露霜虹霞琪琳瑶萱涵梓轩宇泽睿博皓妍媛婉蓉蕾薇"
    "颖洁静丹凤鸣翔腾飞跃奔驰宝贝乐豆丁当点滴圈圆方块糕饼酥麻辣椒盐芝士熊猫狼狐狸兔蜜蜂蝶蓝紫黄绿橙彩墨雅思远志诚信仁义礼智勤俭"
    "邓曹彭曾萧田董潘袁蔡蒋余叶程苏魏吕丁任沈姚卢傅钟姜崔谭廖范汪陆金石戴贾韦夏邱侯邹熊孟秦白江阎薛尹段雷龙黎史陶贺毛郝顾龚邵万"
    "钱严武莫孔汤温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟申兰欧耿焦"
)
SYLLABLES = (
    "ba be bo da de do fa fi ga go ha jo ka ke ki ko la le li lo ma me mi mo na ne ni no pa pe ra re ri ro sa se so ta te "
    "to va ve vi xa za zo lin ran mar tor ven dal ris tan bru bu che da di du el en er fe ge gra gu he hi kas kar lu mal mu "
    "nor nu os pi po pu ren ru sha si sol ste su ti tob tu ul wa we wi ya yu zi"
).split()
CITIES_EN = (
    "Paris London Berlin Rome Madrid Vienna Prague Oslo Lisbon Dublin Athens Warsaw Zurich Geneva Milan Munich Hamburg "
    "Tokyo Kyoto Osaka Seoul Beijing Shanghai Shenzhen Taipei Bangkok Hanoi Delhi Mumbai Dubai Cairo Nairobi Lagos Accra "
    "Toronto Boston Chicago Seattle Denver Austin Miami Houston Lima Bogota Santiago Havana Sydney Perth Auckland Helsinki "
    "Stockholm Bergen Porto Sevilla Lyon Nice Ghent Riga Tallinn Krakow"
).split()
CITIES_EN += ["New York", "San Francisco", "Buenos Aires", "Cape Town", "Hong Kong", "Los Angeles", "Rio de Janeiro"]
CITIES_ZH = (
    "北京 上海 广州 深圳 杭州 南京 成都 重庆 武汉 西安 天津 苏州 长沙 青岛 大连 厦门 昆明 哈尔滨 沈阳 济南 郑州 福州 "
    "香港 台北 东京 大阪 首尔 巴黎 伦敦 柏林 罗马 纽约 悉尼 曼谷 新加坡 莫斯科 多伦多 马德里 维也纳 开罗"
).split()
COLOURS_EN = (
    "red blue green yellow orange purple pink black white brown grey silver gold turquoise violet indigo".split()
)
COLOURS_ZH = "红色 蓝色 绿色 黄色 橙色 紫色 粉色 黑色 白色 棕色 灰色 银色 金色 青色".split()
FOODS_EN = (
    "pizza pasta sushi rice soup bread cheese noodles curry salad tacos dumplings pancakes chocolate apples ramen falafel "
    "lasagna tofu"
).split()
FOODS_ZH = "饺子 面条 米饭 火锅 包子 馒头 披萨 寿司 豆腐 苹果 西瓜 烤鸭 汤圆 粽子 蛋糕 巧克力".split()
PETS_EN = "cat dog hamster rabbit parrot turtle horse fish mouse canary".split()
PETS_ZH = "猫 狗 仓鼠 兔子 鹦鹉 乌龟 马 金鱼".split()
PET_NAMES_EN = (
    "Milo Luna Bella Max Coco Rex Daisy Oreo Simba Nala Lucky Teddy Ziggy Pixel Mochi Pepper Biscuit Shadow".split()
)
PET_NAMES_ZH = "小白 小黑 花花 旺财 豆豆 咪咪 毛毛 球球 圆圆 可乐 布丁 奶茶".split()
SKIES = (
    ("sunny", "晴"), ("cloudy", "多云"), ("rainy", "下雨"), ("windy", "有风"), ("snowy", "下雪"), ("foggy", "有雾"),
    ("stormy", "暴风雨"), ("clear", "晴朗"), ("overcast", "阴"),
)  # fmt: skip
ITEMS_EN = (
    "lamp chair table book phone laptop bike camera clock shirt jacket mug bottle pen watch guitar tent sofa".split()
)
ITEMS_ZH = "台灯 椅子 桌子 书 手机 电脑 自行车 相机 闹钟 衬衫 外套 杯子 水瓶 钢笔 手表 吉他 帐篷 沙发".split()
THINGS_EN = "apples books coins pens stones cards cookies flowers balls eggs stamps oranges".split()
THINGS_ZH = "个苹果 本书 枚硬币 支笔 块石头 张卡片 块饼干 朵花 个球 个鸡蛋".split()
UNKNOWN_EN = (
    "France, Brazil, the moon, the sun, quantum physics, football, the Roman Empire, Shakespeare, Mozart, democracy, "
    "photosynthesis, the stock market, gravity, black holes, dinosaurs, the Olympic Games, chess, tennis, Einstein, Japan, "
    "bitcoin, inflation, evolution, the human heart, volcanoes, Picasso, the Beatles, cricket, chemistry, algebra, history, "
    "biology, astronomy, yoga, gardening, Napoleon, Egypt, the ocean, penguins, jazz, ballet, cooking, the Bible, politics, "
    "the United Nations, medicine, vitamins, electricity, the internet, airplanes, cars, trains, poetry, opera, Mars, "
    "Australia, India, Canada, the weather on Mars, Plato, philosophy, economics, sharks, elephants, tigers, coffee, tea"
).split(", ")
UNKNOWN_ZH = (
    "法国 巴西 月亮 太阳 量子物理 足球 罗马帝国 莎士比亚 莫扎特 民主 光合作用 股票 重力 黑洞 恐龙 奥运会 象棋 网球 爱因斯坦 "
    "日本 比特币 通货膨胀 进化论 心脏 火山 毕加索 化学 代数 历史 生物 天文 瑜伽 拿破仑 埃及 海洋 企鹅 爵士乐 芭蕾 政治 医学 "
    "维生素 电 飞机 汽车 诗歌 歌剧 火星 澳大利亚 印度 柏拉图 哲学 经济学 鲨鱼 大象 咖啡 茶 唐诗 京剧 长城 黄河"
).split()


def new_word(rng: random.Random) -> str:
    """A capitalised word of two or three syllables, such as a name that was never seen before."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def new_word_zh(rng: random.Random) -> str:
    """Two or three characters that make no word."""
    return "".join(rng.choice(CHARACTERS_ZH) for _ in range(rng.choice((2, 2, 3))))


def pet_name_en(rng: random.Random) -> str:
    """The name of a pet, a third of the time an invented one, now and then a person's."""
    kind = rng.random()
    if kind < 0.35:
        return new_word(rng)
    return rng.choice(NAMES_EN) if kind < 0.5 else rng.choice(PET_NAMES_EN)


def pet_name_zh(rng: random.Random) -> str:
    """The name of a pet in Chinese, half the time an invented one."""
    return new_word_zh(rng) if rng.random() < 0.5 else rng.choice(PET_NAMES_ZH)


def name_en(rng: random.Random) -> str:
    """A person's name, a third of the time an invented one."""
    return new_word(rng) if rng.random() < 0.35 else rng.choice(NAMES_EN)


def name_zh(rng: random.Random) -> str:
    """A Chinese name, or now and then a foreign one."""
    if rng.random() < 0.15:
        return name_en(rng)
    given = "".join(rng.choice(rng.choice((GIVEN_ZH, GIVEN_ZH, CHARACTERS_ZH))) for _ in range(rng.choice((1, 2))))
    if rng.random() < 0.3:
        return rng.choice(("", "小")) + given
    kind = rng.random()
    surname = rng.choice(SURNAMES_ZH if kind < 0.5 else CHARACTERS_ZH)
    return (rng.choice(("欧阳", "司马", "上官", "诸葛", "慕容")) if kind > 0.93 else surname) + given


def city_en(rng: random.Random) -> str:
    """A city, now and then an invented one."""
    return new_word(rng) if rng.random() < 0.25 else rng.choice(CITIES_EN)


def city_zh(rng: random.Random) -> str:
    """A city in Chinese, now and then an invented one."""
    return new_word_zh(rng) if rng.random() < 0.25 else rng.choice(CITIES_ZH)
