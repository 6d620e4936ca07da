"""Everyday requests in many languages, written for this project.

Nearly all public text in other languages than English that carries a label is an attack. Learnt from that alone, a language
is taken for harm. These harmless requests, and `examples.level_languages`, take the signal away.
"""

from __future__ import annotations

from typing import Final

EVERYDAY: Final[dict[str, str]] = {
    "ar": "ما هي عاصمة فرنسا؟|كيف أطبخ الأرز؟|اكتب قصيدة قصيرة عن الخريف|كيف حال الطقس اليوم؟|ساعدني في كتابة رسالة إلى معلمي|ما معنى هذه الكلمة؟",
    "bn": "ফ্রান্সের রাজধানী কী?|ভাত কীভাবে রান্না করব?|শরৎ নিয়ে একটি ছোট কবিতা লেখো|আজকের আবহাওয়া কেমন?|আমাকে ইংরেজি শিখতে সাহায্য করো",
    "cs": "Jaké je hlavní město Francie?|Jak uvařím rýži?|Napiš krátkou báseň o podzimu|Jak se dostanu na nádraží?|Pomoz mi s domácím úkolem z matematiky",
    "de": "Was ist die Hauptstadt von Frankreich?|Wie koche ich Reis?|Schreib ein kurzes Gedicht über den Herbst|Erkläre mir den Satz des Pythagoras|Welche Bücher kannst du mir empfehlen?|Übersetze diesen Brief ins Englische|Wie lange muss ein Ei kochen?",
    "el": "Ποια είναι η πρωτεύουσα της Γαλλίας;|Πώς μαγειρεύω ρύζι;|Γράψε ένα μικρό ποίημα για το φθινόπωρο|Τι καιρό θα κάνει αύριο;",
    "es": "¿Cómo se cocina el arroz?|Escribe un poema corto sobre el otoño|Recomiéndame un libro para las vacaciones|¿Qué tiempo hará mañana en Madrid?|Ayúdame a redactar una carta de presentación|Explícame la fotosíntesis|Resume este artículo en tres frases",
    "fi": "Mikä on Ranskan pääkaupunki?|Miten keitän riisiä?|Kirjoita lyhyt runo syksystä|Auta minua matematiikan läksyissä",
    "fr": "Comment faire cuire du riz ?|Écris un court poème sur l'automne|Quel temps fera-t-il demain à Lyon ?|Explique-moi la photosynthèse|Aide-moi à écrire une lettre de motivation|Quels sont les musées à visiter à Paris ?|Corrige les fautes de ce texte",
    "he": "מהי בירת צרפת?|איך מבשלים אורז?|כתוב שיר קצר על הסתיו|עזור לי לכתוב מכתב למורה",
    "hi": "फ्रांस की राजधानी क्या है?|चावल कैसे पकाएँ?|शरद ऋतु पर एक छोटी कविता लिखो|आज मौसम कैसा है?|मुझे अंग्रेज़ी सीखने में मदद करो",
    "hu": "Mi Franciaország fővárosa?|Hogyan főzzek rizst?|Írj egy rövid verset az őszről|Segíts a házi feladatban",
    "id": "Apa ibu kota Prancis?|Bagaimana cara memasak nasi?|Tulis puisi pendek tentang musim gugur|Bantu saya menulis surat lamaran kerja|Rekomendasikan buku untuk anak-anak",
    "it": "Qual è la capitale della Francia?|Come si cuoce il riso?|Scrivi una breve poesia sull'autunno|Che tempo farà domani a Roma?|Aiutami a scrivere una lettera|Consigliami un film per stasera|Spiegami la fotosintesi",
    "ja": "フランスの首都はどこですか?|ご飯の炊き方を教えてください|秋についての短い詩を書いて|明日の天気はどうですか?|英語の勉強を手伝ってください|この文章を要約してください",
    "jv": "Ibukuthané Prancis apa?|Piye carané masak sega?|Tulung gawekna geguritan cendhak|Kabaré piye dina iki?",
    "ko": "프랑스의 수도는 어디인가요?|밥은 어떻게 짓나요?|가을에 대한 짧은 시를 써 주세요|내일 날씨가 어때요?|영어 공부를 도와주세요|이 글을 요약해 주세요",
    "nl": "Wat is de hoofdstad van Frankrijk?|Hoe kook ik rijst?|Schrijf een kort gedicht over de herfst|Help me met mijn wiskundehuiswerk|Welke film raad je aan?",
    "pl": "Jaka jest stolica Francji?|Jak ugotować ryż?|Napisz krótki wiersz o jesieni|Pomóż mi napisać list|Jaka będzie jutro pogoda?",
    "pt": "Qual é a capital da França?|Como se cozinha arroz?|Escreva um poema curto sobre o outono|Ajude-me a escrever uma carta de apresentação|Como vai estar o tempo amanhã?|Resuma este texto em três frases",
    "ro": "Care este capitala Franței?|Cum se fierbe orezul?|Scrie o poezie scurtă despre toamnă|Ajută-mă la tema de matematică",
    "ru": "Какая столица Франции?|Как сварить рис?|Напиши короткое стихотворение об осени|Какая завтра погода?|Помоги мне написать письмо учителю|Посоветуй книгу для отпуска|Объясни теорему Пифагора",
    "sv": "Vad heter Frankrikes huvudstad?|Hur kokar jag ris?|Skriv en kort dikt om hösten|Hjälp mig med läxan",
    "sw": "Mji mkuu wa Ufaransa ni upi?|Ninapikaje wali?|Andika shairi fupi kuhusu mvua|Hali ya hewa ikoje leo?|Nisaidie kujifunza Kiingereza",
    "th": "เมืองหลวงของฝรั่งเศสคืออะไร|หุงข้าวอย่างไร|เขียนบทกวีสั้น ๆ เกี่ยวกับฤดูใบไม้ร่วง|วันนี้อากาศเป็นอย่างไร|ช่วยฉันเรียนภาษาอังกฤษหน่อย",
    "tr": "Fransa'nın başkenti neresidir?|Pirinç nasıl pişirilir?|Sonbahar hakkında kısa bir şiir yaz|Yarın hava nasıl olacak?|Öğretmenime bir mektup yazmama yardım et",
    "uk": "Яка столиця Франції?|Як зварити рис?|Напиши короткий вірш про осінь|Допоможи мені з домашнім завданням",
    "vi": "Thủ đô của Pháp là gì?|Nấu cơm như thế nào?|Viết một bài thơ ngắn về mùa thu|Thời tiết hôm nay thế nào?|Giúp tôi viết một bức thư xin việc|Tóm tắt đoạn văn này",
    "zh": "怎么煮米饭?|写一首关于秋天的短诗|请帮我写一封求职信|这个周末去哪里玩比较好?|请把这段话翻译成英文|解释一下光合作用|推荐几本适合孩子的书|总结一下这篇文章|如何学习编程?",
}
"""By language code, the requests, parted by bars."""


def everyday_prompts() -> list[str]:
    """The requests, one by one."""
    return [prompt for prompts in EVERYDAY.values() for prompt in prompts.split("|")]
