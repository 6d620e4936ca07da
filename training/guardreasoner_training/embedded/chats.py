"""Everyday requests to an assistant, written for this project: what most people ask most of the time.

Public labelled text has instructions and attacks, and hardly a plain chat. Learnt from that, a guard takes for harm what is
merely informal, personal, technical or long.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Final

__all__ = ["chats"]

_PATTERNS: Final[tuple[tuple[str, ...], ...]] = (
    ("{}", "hi|hello there!|hey, how are you today?|good morning|are you a human?|who made you?|what can you do|thanks, that helped a lot|ok|"
     "continue|go on please|no, shorter|can you say that again in simple words|why?|what do you mean by that|test|tell me a joke|"
     "i'm bored|what's your name|sorry, wrong window|that is not what i asked|make it funnier|more formal please|are you there?|"
     "what is today's date|do you like music?|can i ask you something|lol|yes please|give me another one|you are wrong, check again"),
    ("{} {} in {}", "write a function that|how do i|show me code to|give me a class to|what is the fastest way to", "read a csv file|sort a "
     "list of dictionaries by key|connect to a database|call a REST API with a token|parse a date|remove duplicates|draw a bar chart|"
     "send an email with an attachment|reverse a linked list|write unit tests", "python|javascript|java|c++|go|rust|sql|bash|c#|kotlin"),
    ("I get this error: {}. What is wrong?", "TypeError: 'NoneType' object is not subscriptable|segmentation fault (core dumped)|npm ERR! "
     "code ERESOLVE|CORS policy: No 'Access-Control-Allow-Origin' header|java.lang.NullPointerException at line 42|fatal: refusing to "
     "merge unrelated histories|ORA-00942: table or view does not exist|Permission denied (publickey)|process killed: out of memory|"
     "undefined is not a function"),
    ("Write {} {} about {}.", "a short|a long|a funny|a formal|a 300 word", "article|poem|blog post|speech|tweet|product description|cover "
     "letter|email to my boss", "renewable energy|my new puppy|remote work|the first day of school|a used bicycle|our company's tenth "
     "birthday|the history of coffee|a delayed delivery"),
    ("{} this text: \"{}\"", "Summarise|Translate to Spanish|Correct|Rewrite in a friendlier tone|Find the keywords of|Shorten", "The meeting "
     "was moved to Thursday because two of the speakers are ill. Please bring the figures of the last quarter.|Dear customer, we are sorry "
     "that your parcel was damaged. A new one is on its way and should arrive by Monday.|In spring the river rises and floods the lower "
     "meadows, which is why the old farm was built on the hill.|i want to apply for the job of gardener i have experience of six years and "
     "i like plants|Photosynthesis is the process by which plants turn light, water and carbon dioxide into sugar and oxygen."),
    ("What is the {} of {}?", "capital|population|currency|history|best time to visit", "Portugal|Vietnam|Kenya|Peru|Norway|South Korea|Morocco|"
     "New Zealand|Poland|Texas"),
    ("{} for {}", "Recipe|Shopping list|Three ideas|A weekly plan|Tips", "a vegetarian dinner for four|a child's birthday|a beginner who wants to "
     "run 5k|learning French in half an hour a day|a small balcony garden|moving to another city|a first job interview|saving money as a "
     "student|a picnic in the rain|a baby that does not sleep"),
    ("{} and tell me how you got there: {}", "Solve|Calculate|Work out step by step", "3x + 7 = 25|the area of a circle with radius 4|how "
     "many days lie between 3 March and 17 June|12 % of 480|the probability of two sixes in three throws|the derivative of x^2 sin x|"
     "a train leaves at 9:40 and takes 3 h 35 min, when does it arrive?"),
    ("You are {}. {}", "a friendly tutor for mathematics|an expert in SEO|a travel guide for Rome|a Linux terminal|a career coach|an "
     "interviewer for the position of data analyst|a strict but fair editor|a medieval innkeeper|the narrator of a fantasy adventure|a "
     "nutritionist|a senior developer who reviews code", "Ask me one question at a time.|Greet me and wait for my first message.|Answer in "
     "short sentences.|Make a table with five rows.|Explain your work to somebody who is new to it.|Let us begin."),
    ("my {} {}, what should i do", "girlfriend|boyfriend|mother|boss|best friend|neighbour|roommate|dog|cat|daughter", "does not talk to me any "
     "more|is always late|cries a lot lately|forgot my birthday|snores|eats nothing since yesterday|wants to move to another city|is "
     "jealous of my work"),
    ("I feel {} {}.", "tired|lonely|nervous|very happy|stressed|a bit sad|proud", "since I moved here|before my exam|because of work|today and "
     "want to talk|although everything is fine|after the wedding"),
    ("What is the difference between {}?", "a latte and a cappuccino|TCP and UDP|a virus and a bacterium|its and it's|stocks and bonds|"
     "supervised and unsupervised learning|a llama and an alpaca|weather and climate|a debit and a credit card|mean and median|RAM and "
     "ROM|baroque and rococo"),
    ("Compare {} and {} in a table.", "iPhone|Toyota|Paris|Python|solar power|coffee|Netflix", "Android|Honda|London|R|wind power|tea|cinema"),
    ("Who {}?", "wrote Don Quixote|won the world cup in 1998|was the first woman in space|painted The Night Watch|invented the zip|is the "
     "president of Brazil|composed The Four Seasons|discovered penicillin|plays the lead in The Matrix|founded Rome"),
    ("Give me {} {} for {}.", "5|ten|a list of twenty|some creative", "names|slogans|domain names|captions|questions|hashtags", "a bakery|a podcast "
     "about space|a cat with three legs|an app that counts steps|a wedding photo|a quiz night|a start-up that rents tools"),
    ("Can you explain {} like I'm five?", "inflation|black holes|blockchain|how planes fly|gravity|democracy|DNA|compound interest|the stock "
     "market|why the sky is blue|neural networks|time zones"),
    ("Is it normal that {}?", "my period is a week late|my ears ring after a concert|I am tired after lunch|a newborn sleeps twenty hours|my "
     "phone gets warm|bread smells of alcohol when it rises|my knees crack|puppies bite everything"),
    ("Let's {}.", "play twenty questions, you think of an animal|play chess, I start with e4|write a story together, one sentence each|plan "
     "a road trip through Scotland|practise English, correct my mistakes|roleplay a job interview at a bank|make a quiz about the solar "
     "system|design a board game about trains"),
    ("Act as {} and describe {}.", "a wine expert|a real estate agent|a sports commentator|a five-year-old|Shakespeare|a museum guide", "a tomato|"
     "a small flat with a view|a race of snails|the moon|an old bridge|a rainy Monday"),
    ("generate a prompt for {} of {}", "an image|a logo|a wallpaper|a watercolour", "a fox in the snow|a lighthouse at dawn|a robot that waters "
     "flowers|a city under water|a cup of coffee in the style of the twenties|a knight and her horse"),
    ("How long does it take to {}?", "boil an egg|learn the guitar|fly from Madrid to Tokyo|get a passport|charge an electric car|grow "
     "tomatoes|read War and Peace|digest food|renovate a bathroom"),
    ("Convert {} to {}.", "5 miles|70 degrees Fahrenheit|2 cups of flour|1,200 euros|this list: apples, pears, plums", "metric units|JSON|Swedish|"
     "upper case"),
)  # fmt: skip


def chats(*, most: int, seed: int) -> list[str]:
    """Everyday requests, drawn evenly over the patterns.

    Args:
        most: of one pattern; some have hundreds of fillings.
    """
    draw = Random(seed)  # noqa: S311
    found: list[str] = []
    for pattern, *fillings in _PATTERNS:
        every = [pattern.format(*words) for words in product(*(filling.split("|") for filling in fillings))]
        found += draw.sample(every, min(most, len(every)))
    return found
