"""Refusals and compliance in other languages than English: how an answer begins there when it declines, and when it helps.

Public sets have refusals of a few models in a dozen languages, in three of ours none at all. What follows an opening is of no
matter to the second head; so the answers that help end where their matter would begin. All openings are written for this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.sources import source_of

__all__ = ["COMPLIANCE", "REFUSALS", "compliance", "make_declined", "refusal_in"]

REFUSALS: Final[dict[str, tuple[str, str, str]]] = {
    "en": (
        "I'm sorry.|Sorry.|I apologise.|Unfortunately,|I understand the wish, but|No.",
        "I can't help with that.|I won't do this.|this is something I have to decline.|I cannot give instructions for this.|I'm not able to answer that.",
        "It could hurt people.|This is illegal.|Is there anything else I can do?|If you are in danger, call the emergency number.|I'd be glad to talk about how to stay safe.",
    ),
    "de": (
        "Es tut mir leid,|Entschuldigung,|Leider|Nein,|Ich verstehe die Frage, aber|Tut mir leid, aber",
        "dabei kann ich nicht helfen.|das mache ich nicht.|diese Anfrage muss ich ablehnen.|dazu gebe ich keine Anleitung.|darauf kann ich nicht eingehen.|so etwas unterstütze ich nicht.",
        "Das wäre strafbar und gefährlich.|Damit könnten Menschen verletzt werden.|Kann ich sonst etwas für dich tun?|Wenn es dir schlecht geht, sprich bitte mit jemandem, dem du vertraust.|Gern erkläre ich stattdessen, wie man sich davor schützt.",
    ),
    "fr": (
        "Je suis désolé, mais|Désolé,|Malheureusement,|Non,|Je comprends votre question, mais|Je regrette,",
        "je ne peux pas vous aider sur ce point.|je ne ferai pas cela.|je dois refuser cette demande.|je ne donne pas ce genre d'instructions.|il m'est impossible de répondre à cela.|je ne peux pas fournir ces informations.",
        "C'est illégal et dangereux.|Cela pourrait blesser quelqu'un.|Puis-je vous aider autrement ?|Si vous traversez un moment difficile, parlez-en à un proche.|Je peux en revanche vous expliquer comment vous en protéger.",
    ),
    "es": (
        "Lo siento, pero|Lo lamento,|Desafortunadamente,|No,|Entiendo tu pregunta, pero|Disculpa,",
        "no puedo ayudarte con eso.|no voy a hacerlo.|debo rechazar esta petición.|no doy instrucciones de ese tipo.|no puedo responder a eso.|no puedo proporcionar esa información.",
        "Es ilegal y peligroso.|Podría hacer daño a alguien.|¿Puedo ayudarte con otra cosa?|Si lo estás pasando mal, habla con alguien de confianza.|Sí puedo explicarte cómo protegerte.",
    ),
    "pt": (
        "Desculpe, mas|Sinto muito,|Infelizmente,|Não,|Entendo a sua pergunta, mas|Lamento, mas",
        "não posso ajudar com isso.|não vou fazer isso.|tenho de recusar este pedido.|não dou instruções desse tipo.|não posso responder a isso.|não posso fornecer essas informações.|isso eu não faço.",
        "Isso é ilegal e perigoso.|Alguém poderia se machucar.|Posso ajudar em outra coisa?|Se você está passando por um momento difícil, converse com alguém de confiança ou ligue para o CVV.|Posso explicar como se proteger disso.",
    ),
    "it": (
        "Mi dispiace, ma|Scusa,|Purtroppo|No,|Capisco la domanda, ma|Spiacente,",
        "non posso aiutarti in questo.|non lo farò.|devo rifiutare questa richiesta.|non do istruzioni di questo tipo.|non posso rispondere.|non posso fornire queste informazioni.",
        "È illegale e pericoloso.|Qualcuno potrebbe farsi male.|Posso aiutarti in altro modo?|Se stai attraversando un momento difficile, parlane con qualcuno di cui ti fidi.|Posso invece spiegarti come proteggerti.",
    ),
    "nl": (
        "Het spijt me, maar|Sorry,|Helaas,|Nee,|Ik begrijp je vraag, maar|Excuses,",
        "daar kan ik niet bij helpen.|dat doe ik niet.|dit verzoek moet ik weigeren.|zulke instructies geef ik niet.|daar kan ik geen antwoord op geven.|die informatie kan ik niet geven.",
        "Dat is strafbaar en gevaarlijk.|Er zouden mensen gewond kunnen raken.|Kan ik je ergens anders mee helpen?|Als het niet goed met je gaat, praat dan met iemand die je vertrouwt.|Ik leg graag uit hoe je je ertegen beschermt.",
    ),
    "ru": (
        "Извините, но|К сожалению,|Прошу прощения,|Нет,|Я понимаю ваш вопрос, но|Мне жаль, но",
        "я не могу с этим помочь.|я этого делать не буду.|я вынужден отказать.|я не даю таких инструкций.|на это я ответить не могу.|я не могу предоставить эту информацию.",
        "Это незаконно и опасно.|Могут пострадать люди.|Могу ли я помочь чем-то другим?|Если вам тяжело, поговорите с близким человеком.|Могу рассказать, как от этого защититься.",
    ),
    "zh": (
        "抱歉，|很抱歉，|对不起，|不行，|我理解您的问题，但是|非常遗憾，",
        "我不能帮您做这件事。|我无法提供这方面的帮助。|我必须拒绝这个请求。|我不会提供这类说明。|我不能回答这个问题。|这样的内容我不能写。",
        "这是违法且危险的。|这可能会伤害他人。|还有别的事情需要我帮忙吗？|如果您正处于困境，请和信任的人谈谈。|我可以告诉您如何保护自己。",
    ),
    "ja": (
        "申し訳ありませんが、|すみませんが、|残念ながら、|いいえ、|ご質問は分かりますが、|恐れ入りますが、",
        "それはお手伝いできません。|そのご依頼にはお応えできません。|お断りします。|そのような手順はお教えできません。|それにはお答えできません。|その情報は提供できません。",
        "違法で危険な行為です。|誰かが傷つくおそれがあります。|ほかにお手伝いできることはありますか？|つらいときは、信頼できる人に相談してください。|身を守る方法なら説明できます。",
    ),
    "ko": (
        "죄송하지만|미안하지만|안타깝지만|아니요,|질문은 이해하지만|죄송합니다.",
        "그건 도와드릴 수 없습니다.|그런 일은 하지 않습니다.|이 요청은 거절하겠습니다.|그런 방법은 알려 드릴 수 없습니다.|답변드릴 수 없습니다.|해당 정보는 제공할 수 없습니다.",
        "불법이고 위험한 일입니다.|누군가 다칠 수 있습니다.|다른 도움이 필요하신가요?|힘드시다면 믿을 만한 사람과 이야기해 보세요.|대신 예방하는 방법을 설명해 드릴 수 있습니다.",
    ),
    "ar": (
        "عذرًا،|آسف، لكن|للأسف،|لا،|أفهم سؤالك، لكن|أعتذر،",
        "لا أستطيع مساعدتك في ذلك.|لن أفعل هذا.|يجب أن أرفض هذا الطلب.|لا أقدم تعليمات من هذا النوع.|لا يمكنني الإجابة عن هذا السؤال.|لا يمكنني تقديم هذه المعلومات.",
        "هذا غير قانوني وخطير.|قد يتعرض أحد للأذى.|هل يمكنني مساعدتك في شيء آخر؟|إذا كنت تمر بوقت صعب فتحدث مع شخص تثق به.|يمكنني أن أشرح لك كيف تحمي نفسك.",
    ),
    "hi": (
        "माफ़ कीजिए,|क्षमा करें, लेकिन|खेद है,|नहीं,|मैं आपका सवाल समझता हूँ, लेकिन|सॉरी,",
        "मैं इसमें मदद नहीं कर सकता।|मैं यह नहीं करूँगा।|मुझे यह अनुरोध ठुकराना होगा।|मैं इस तरह के निर्देश नहीं देता।|मैं इसका जवाब नहीं दे सकता।|यह जानकारी मैं नहीं दे सकता।|मैं ऐसी सामग्री नहीं बना सकती।",
        "यह गैरकानूनी और खतरनाक है।|इससे किसी को चोट पहुँच सकती है।|क्या मैं किसी और चीज़ में मदद करूँ?|अगर आप मुश्किल दौर से गुज़र रहे हैं तो किसी भरोसेमंद व्यक्ति से बात करें।|मैं बता सकता हूँ कि इससे कैसे बचा जाए।",
    ),
    "tr": (
        "Üzgünüm,|Özür dilerim ama|Maalesef|Hayır,|Sorunuzu anlıyorum ama|Kusura bakmayın,",
        "bu konuda yardımcı olamam.|bunu yapmayacağım.|bu isteği reddetmek zorundayım.|bu tür talimatlar vermem.|buna cevap veremem.|bu bilgiyi paylaşamam.|böyle bir içerik hazırlayamam.",
        "Bu yasa dışı ve tehlikelidir.|Birileri zarar görebilir.|Başka bir konuda yardımcı olabilir miyim?|Zor bir dönemden geçiyorsanız güvendiğiniz biriyle konuşun.|Bundan nasıl korunabileceğinizi anlatabilirim.",
    ),
    "pl": (
        "Przepraszam, ale|Niestety|Przykro mi,|Nie,|Rozumiem pytanie, ale|Wybacz,",
        "nie mogę w tym pomóc.|nie zrobię tego.|muszę odmówić.|nie podaję takich instrukcji.|nie mogę na to odpowiedzieć.|nie mogę udzielić takich informacji.",
        "To nielegalne i niebezpieczne.|Ktoś mógłby ucierpieć.|Czy mogę pomóc w czymś innym?|Jeśli jest ci ciężko, porozmawiaj z kimś bliskim.|Mogę wyjaśnić, jak się przed tym chronić.",
    ),
    "th": (
        "ขออภัย |ขอโทษ |น่าเสียดาย |ไม่ได้ |ฉันเข้าใจคำถาม แต่|เสียใจด้วย ",
        "ฉันช่วยเรื่องนี้ไม่ได้|ฉันจะไม่ทำสิ่งนี้|ฉันต้องปฏิเสธคำขอนี้|ฉันไม่ให้คำแนะนำแบบนี้|ฉันตอบคำถามนี้ไม่ได้|ฉันให้ข้อมูลนี้ไม่ได้",
        " มันผิดกฎหมายและอันตราย| อาจมีคนได้รับบาดเจ็บ| มีอะไรอื่นให้ช่วยไหม| หากคุณกำลังลำบากใจ โปรดคุยกับคนที่ไว้ใจ| ฉันอธิบายวิธีป้องกันตัวได้",
    ),
    "vi": (
        "Xin lỗi, nhưng|Rất tiếc,|Tiếc là|Không,|Tôi hiểu câu hỏi của bạn, nhưng|Thành thật xin lỗi,",
        "tôi không thể giúp việc này.|tôi sẽ không làm điều đó.|tôi phải từ chối yêu cầu này.|tôi không đưa ra hướng dẫn như vậy.|tôi không thể trả lời câu này.|tôi không thể cung cấp thông tin đó.",
        "Việc đó trái pháp luật và nguy hiểm.|Có thể có người bị thương.|Tôi có thể giúp gì khác không?|Nếu bạn đang gặp khó khăn, hãy nói chuyện với người bạn tin tưởng.|Tôi có thể giải thích cách tự bảo vệ.",
    ),
    "id": (
        "Maaf,|Mohon maaf,|Sayangnya|Tidak,|Saya mengerti pertanyaan Anda, tetapi|Maaf, tapi",
        "saya tidak bisa membantu hal itu.|saya tidak akan melakukannya.|saya harus menolak permintaan ini.|saya tidak memberi petunjuk seperti itu.|saya tidak dapat menjawabnya.|saya tidak bisa memberikan informasi itu.",
        "Itu melanggar hukum dan berbahaya.|Seseorang bisa terluka.|Ada hal lain yang bisa saya bantu?|Jika Anda sedang kesulitan, bicaralah dengan orang yang Anda percaya.|Saya bisa menjelaskan cara melindungi diri.",
    ),
    "uk": (
        "Вибачте, але|На жаль,|Перепрошую,|Ні,|Я розумію ваше запитання, але|Мені прикро, але",
        "я не можу з цим допомогти.|я цього не робитиму.|я змушений відмовити.|я не даю таких інструкцій.|я не можу на це відповісти.|я не можу надати цю інформацію.",
        "Це незаконно й небезпечно.|Можуть постраждати люди.|Чи можу я допомогти чимось іншим?|Якщо вам важко, поговоріть із близькою людиною.|Можу пояснити, як від цього захиститися.",
    ),
}
"""By language: how a refusal opens, how it declines, what it adds; parted by bars."""

COMPLIANCE: Final[dict[str, str]] = {
    "en": "Sure, here is how:|Of course! Let's begin with the first step.|Here you go:|Gladly. What you need first is this:|That is simple.",
    "de": "Klar, so geht es:|Natürlich! Fangen wir mit dem ersten Schritt an.|Hier bitte:|Gern. Zuerst brauchst du Folgendes:|Das ist einfach.|Sicher, hier ist die Anleitung:",
    "fr": "Bien sûr, voici comment faire :|Avec plaisir ! Commençons par la première étape.|Voici :|Volontiers. Il vous faut d'abord ceci :|C'est simple.|Certainement, voici les étapes :",
    "es": "Claro, se hace así:|¡Por supuesto! Empecemos por el primer paso.|Aquí tienes:|Con gusto. Primero necesitas esto:|Es sencillo.|Desde luego, estos son los pasos:",
    "pt": "Claro, é assim:|Com certeza! Vamos começar pelo primeiro passo.|Aqui está:|Com prazer. Primeiro você precisa disto:|É simples.|Certamente, estes são os passos:",
    "it": "Certo, si fa così:|Volentieri! Cominciamo dal primo passo.|Ecco qui:|Con piacere. Per prima cosa ti serve questo:|È semplice.|Certamente, ecco i passaggi:",
    "nl": "Natuurlijk, zo doe je dat:|Graag! Laten we met de eerste stap beginnen.|Alsjeblieft:|Met plezier. Eerst heb je dit nodig:|Dat is eenvoudig.|Zeker, dit zijn de stappen:",
    "ru": "Конечно, вот как это делается:|Разумеется! Начнём с первого шага.|Вот, пожалуйста:|С удовольствием. Сначала понадобится следующее:|Это просто.|Да, вот инструкция:",
    "zh": "当然可以，方法如下：|好的，我们从第一步开始。|给您：|很乐意。首先您需要：|这很简单。|没问题，步骤如下：",
    "ja": "もちろんです。やり方は次のとおりです。|はい、まず最初の手順から始めましょう。|どうぞ。|喜んで。最初に必要なものはこちらです。|簡単です。|承知しました。手順は次のとおりです。",
    "ko": "물론이죠. 방법은 다음과 같습니다.|네, 첫 단계부터 시작해 볼게요.|여기 있습니다:|기꺼이 도와드릴게요. 먼저 필요한 것은 다음과 같습니다.|간단합니다.|알겠습니다. 순서는 이렇습니다.",
    "ar": "بالطبع، إليك الطريقة:|أكيد! لنبدأ بالخطوة الأولى.|تفضل:|بكل سرور. تحتاج أولًا إلى ما يلي:|الأمر بسيط.|حسنًا، هذه هي الخطوات:",
    "hi": "ज़रूर, तरीका यह है:|बिल्कुल! पहले चरण से शुरू करते हैं।|यह लीजिए:|खुशी से। सबसे पहले आपको यह चाहिए:|यह आसान है।|ठीक है, चरण ये हैं:|हाँ, मैं बताता हूँ।",
    "tr": "Tabii, şöyle yapılır:|Elbette! İlk adımla başlayalım.|Buyurun:|Memnuniyetle. Önce şunlar gerekiyor:|Bu çok kolay.|Tamam, adımlar şöyle:|Evet, hemen anlatayım.",
    "pl": "Jasne, robi się to tak:|Oczywiście! Zacznijmy od pierwszego kroku.|Proszę bardzo:|Z przyjemnością. Najpierw potrzebujesz:|To proste.|Pewnie, oto kolejne kroki:",
    "th": "ได้เลย วิธีทำมีดังนี้|แน่นอน เริ่มจากขั้นตอนแรกกัน|นี่ครับ|ยินดีค่ะ ก่อนอื่นต้องมีสิ่งต่อไปนี้|ง่ายมาก|ได้ครับ ขั้นตอนมีดังนี้",
    "vi": "Được chứ, cách làm như sau:|Tất nhiên! Hãy bắt đầu với bước đầu tiên.|Đây ạ:|Rất sẵn lòng. Trước hết bạn cần:|Rất đơn giản.|Vâng, các bước như sau:",
    "id": "Tentu, caranya begini:|Baik! Mari mulai dari langkah pertama.|Ini dia:|Dengan senang hati. Pertama-tama Anda perlu:|Mudah saja.|Oke, langkah-langkahnya sebagai berikut:",
    "uk": "Звісно, ось як це робиться:|Залюбки! Почнімо з першого кроку.|Ось, будь ласка:|Із задоволенням. Спершу знадобиться таке:|Це просто.|Так, ось інструкція:",
}
"""By language, how an answer begins that helps, parted by bars."""

_UNSPACED: Final = frozenset({"zh", "ja", "th"})


def refusal_in(lang: str, draw: Random) -> str:
    """A refusal in a language, newly composed.

    Args:
        lang: its code, one of `REFUSALS`.
    """
    parts = [draw.choice(words.split("|")) for words in REFUSALS[lang]]
    if draw.random() < 0.3:
        parts.pop()
    if draw.random() < 0.2:
        parts[:2] = [parts[1][0].upper() + parts[1][1:]]
    elif parts[0].endswith("."):
        parts[1] = parts[1][0].upper() + parts[1][1:]
    return ("" if lang in _UNSPACED else " ").join(parts)


def compliance(lang: str, draw: Random) -> str:
    """The opening of an answer that helps.

    Args:
        lang: code of its language, one of `COMPLIANCE`.
    """
    return draw.choice(COMPLIANCE[lang].split("|"))


def make_declined(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Answers that decline and answers that help, to harmful and to harmless prompts alike, as many of each.

    What the helpful opening of an answer to a harmful prompt leads to is not said; it has no label of harm.

    Args:
        examples: what prompts are drawn from: those in a language with openings, and not in English; no moderation text.
    """
    draw = Random(seed)  # noqa: S311
    fit: dict[tuple[str, bool], list[Example]] = {}
    for example in examples:
        if _fits(example):
            fit.setdefault((str(example.lang), example.labels[0] is True), []).append(example)
    made: list[Example] = []
    for (lang, harmful), own in sorted(fit.items()):
        for example in draw.sample(own, min(len(own), most // max(1, len(fit)))):
            refuses = draw.random() < 0.5
            response = refusal_in(lang, draw) if refuses else compliance(lang, draw)
            judged = None if harmful and not refuses else False
            made.append(replace(example, response=response, labels=(None, refuses, judged), hazard=None, source="written"))
    return made


def _fits(example: Example) -> bool:
    return (
        example.response is None
        and not example.history
        and example.labels[0] is not None
        and example.lang in REFUSALS
        and not example.english
        and not source_of(example.source).moderation
    )
