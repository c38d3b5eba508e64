"""Other languages: facts in German, French, Spanish, Chinese and Japanese, asked for in the same language.

Each fact has near misses that name the same subject. Nouns are inflected in some questions, as in "Brücken" for
"Brücke", so that a stemmer of the language matters.
"""

# ruff: noqa: RUF001 (the punctuation of Chinese and Japanese)

from __future__ import annotations

from dataclasses import dataclass

from tests.retrieval.bench.corpus import HOUR_S, Corpus, Writer


@dataclass(frozen=True)
class _Language:
    """`subjects`: (in a sentence, as it stands in the question)."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    mentions: tuple[str, ...]
    subjects: tuple[tuple[str, str], ...]
    details: tuple[str, ...]
    small_talk: tuple[str, ...]


_LANGUAGES = {
    "German": _Language(
        ("Wir haben {s} {d} versteckt.", "{s}? Liegt jetzt {d}, ich habe es gesehen.", "Damit niemand stiehlt, kam {s} {d} unter."),
        ("Wo befinden sich {s}?", "An welchem Ort sind {s} zu finden?", "Weiß jemand, wo {s} geblieben sind?"),
        ("Der Händler fragte nach {s}.", "Über {s} wird viel geredet.", "Ich träumte von {s}.", "Für {s} zahlt man gut."),
        (("den goldenen Schlüssel", "die goldenen Schlüssel"), ("die alte Laterne", "die alten Laternen"), ("das große Fass", "die großen Fässer"),
         ("die Landkarte", "die Landkarten"), ("den Apfelkuchen", "die Apfelkuchen"), ("die Kerze", "die Kerzen"), ("das Schwert", "die Schwerter"),
         ("den Brief", "die Briefe"), ("die Münze", "die Münzen"), ("das Hufeisen", "die Hufeisen")),
        ("unter der Brücke", "hinter der Mühle", "im Keller des Wirtshauses", "auf dem Dachboden", "im hohlen Baum", "neben dem Brunnen"),
        ("Guten Morgen!", "Heute regnet es wieder.", "Die Suppe war kalt.", "Der Wolf war gestern am Zaun.", "Bis bald!", "Ich bin müde."),
    ),
    "French": _Language(
        ("Nous avons caché {s} {d}.", "{s} ? C'est maintenant {d}, je l'ai vu.", "J'ai rangé {s} {d} pour l'hiver."),
        ("Où se trouvent {s} ?", "À quel endroit sont {s} ?", "Qui sait où sont passés {s} ?"),
        ("Le marchand a parlé de {s}.", "On raconte des histoires sur {s}.", "J'ai rêvé de {s}.", "Personne ne veut acheter {s}."),
        (("la clé dorée", "les clés dorées"), ("la vieille lanterne", "les vieilles lanternes"), ("le grand tonneau", "les grands tonneaux"),
         ("la carte", "les cartes"), ("le gâteau aux pommes", "les gâteaux aux pommes"), ("la bougie", "les bougies"), ("l'épée", "les épées"),
         ("la lettre", "les lettres"), ("la pièce d'argent", "les pièces d'argent"), ("le fer à cheval", "les fers à cheval")),
        ("sous le pont", "derrière le moulin", "dans la cave de l'auberge", "au grenier", "dans l'arbre creux", "près du puits"),
        ("Bonjour à tous !", "Il pleut encore aujourd'hui.", "La soupe était froide.", "Le loup est venu hier.", "À bientôt !", "Je suis fatigué."),
    ),
    "Spanish": _Language(
        ("Hemos escondido {s} {d}.", "¿{s}? Ahora está {d}, lo vi.", "Guardé {s} {d} para el invierno."),
        ("¿Dónde están {s}?", "¿En qué lugar se encuentran {s}?", "¿Alguien sabe dónde quedaron {s}?"),
        ("El comerciante preguntó por {s}.", "Se habla mucho de {s}.", "Soñé con {s}.", "Nadie quiere comprar {s}."),
        (("la llave dorada", "las llaves doradas"), ("el viejo farol", "los viejos faroles"), ("el gran barril", "los grandes barriles"),
         ("el mapa", "los mapas"), ("la tarta de manzana", "las tartas de manzana"), ("la vela", "las velas"), ("la espada", "las espadas"),
         ("la carta", "las cartas"), ("la moneda de plata", "las monedas de plata"), ("la herradura", "las herraduras")),
        ("bajo el puente", "detrás del molino", "en el sótano de la posada", "en el desván", "en el árbol hueco", "junto al pozo"),
        ("¡Buenos días!", "Hoy llueve otra vez.", "La sopa estaba fría.", "El lobo vino ayer.", "¡Hasta pronto!", "Estoy cansado."),
    ),
    "Chinese": _Language(
        ("我们把{s}藏在{d}。", "{s}现在放在{d}，我亲眼看见的。", "怕人偷走，{s}已经搬到{d}。"),
        ("{s}在什么地方？", "哪里可以找到{s}？", "谁知道{s}的下落？"),
        ("商人打听过{s}。", "村里都在谈论{s}。", "我梦见了{s}。", "没有人想买{s}。"),
        (("金钥匙", "金钥匙"), ("旧灯笼", "旧灯笼"), ("大木桶", "大木桶"), ("藏宝图", "藏宝图"), ("苹果馅饼", "苹果馅饼"), ("蜡烛", "蜡烛"),
         ("宝剑", "宝剑"), ("书信", "书信"), ("银币", "银币"), ("马蹄铁", "马蹄铁")),
        ("桥下面", "磨坊后面", "酒馆的地窖里", "阁楼上", "空心树里", "水井旁边"),
        ("大家早上好！", "今天又下雨了。", "汤已经凉了。", "昨天狼来过。", "再见！", "我很累。"),
    ),
    "Japanese": _Language(
        ("{s}は{d}に隠しました。", "{s}なら今{d}にあります。", "盗まれないように{s}を{d}へ移した。"),
        ("{s}はどこにありますか？", "{s}の場所を教えて。", "誰か{s}の行方を知っている？"),
        ("商人が{s}について尋ねた。", "村では{s}の話ばかりだ。", "{s}の夢を見た。", "{s}を買う人はいない。"),
        (("金の鍵", "金の鍵"), ("古い提灯", "古い提灯"), ("大きな樽", "大きな樽"), ("宝の地図", "宝の地図"), ("りんごのパイ", "りんごのパイ"),
         ("ろうそく", "ろうそく"), ("剣", "剣"), ("手紙", "手紙"), ("銀貨", "銀貨"), ("蹄鉄", "蹄鉄")),
        ("橋の下", "水車小屋の裏", "酒場の地下室", "屋根裏", "木の洞", "井戸のそば"),
        ("おはようございます！", "今日もまた雨だ。", "スープが冷めていた。", "昨日、狼が来た。", "またね！", "とても疲れた。"),
    ),
}  # fmt: skip


def corpus(seed: int) -> Corpus:
    """One agent per language, with ten subjects and their near misses."""
    writer = Writer("languages", seed)
    for name, language in _LANGUAGES.items():
        agent = f"npc:{name.lower()}"
        for subject, asked in writer.some(language.subjects, len(language.subjects)):
            for _ in range(4):
                writer.wait(0.1 * HOUR_S, HOUR_S)
                text = writer.say(
                    (*language.mentions, *language.small_talk), s=writer.pick(language.subjects)[0]
                )
                writer.event(agent, text, type="chat")
            gold = writer.event(
                agent,
                writer.say(language.statements, s=subject, d=writer.pick(language.details)),
                type="chat",
            )
            for mention in writer.some(language.mentions, 2):
                writer.wait(0.1 * HOUR_S, HOUR_S)
                writer.event(agent, mention.format(s=subject), type="chat")
            writer.ask(agent, writer.say(language.questions, s=asked), gold, kind=f"language: {name}")
    return writer.corpus
