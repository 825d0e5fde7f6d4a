# SPDX-License-Identifier: Apache-2.0
"""The building blocks of reviews: clauses that praise or criticise one aspect of a purchase."""

FIXED = {
    "delivery": (
        "it arrived a day early/it came the next morning/the parcel was quick/shipping took only two days",
        "it arrived two weeks late/the parcel got lost once/shipping took forever/the courier left it in the rain",
    ),
    "packaging": (
        "it was packed with care/the box was neat and safe/there was hardly any plastic wrap",
        "the box was crushed/it came without any padding/there was far too much plastic wrap",
    ),
    "price": (
        "it is worth every penny/it is a bargain/you get a lot for the money",
        "it costs far too much/it is not worth the money/I paid twice what it is worth",
    ),
    "durability": (
        "it still looks new after a year/it survived a fall/nothing has worn out so far",
        "it broke after a week/it fell apart in a month/a crack appeared on day two/it stopped working",
    ),
    "cleaning": (
        "it wipes clean in seconds/it is easy to clean/stains come off at once",
        "it is a pain to clean/stains never come off/dirt sticks in every corner",
    ),
    "size": (
        "it fits perfectly/the size is just right/it is bigger than I hoped",
        "it is much too small/the size is wrong/it does not fit at all",
    ),
    "smell": (
        "there is no odd smell/it smells of fresh wood",
        "it smells of chemicals/the smell never goes away",
    ),
    "fit": (
        "every part fits neatly/it feels solid/the edges are smooth",
        "the parts do not line up/it feels flimsy/the edges are sharp/it wobbles",
    ),
    "setup": (
        "it was ready in two minutes/the instructions were clear",
        "setting it up took all evening/the instructions made no sense/two screws were missing",
    ),
    "service": (
        "the shop answered within an hour/they replaced it for free/the staff were friendly",
        "nobody answered my emails/they refused a refund/the staff were rude",
    ),
    "use": (
        "I use it every day/it does its job well/it works like a charm/my whole family likes it",
        "I never use it/it does not do its job/it is useless to me/it ended up in the bin",
    ),
    "looks": (
        "it looks even better than in the photos/it looks beautiful/everyone asks where I got it",
        "it looks nothing like the photos/it looks cheap/the paint is peeling",
    ),
}
ASPECTS = (
    "colour quality design finish material shape service delivery packaging price weight "
    "texture workmanship surface handling"
).split()
PRAISE = (
    "great excellent lovely superb perfect wonderful good fantastic brilliant impressive "
    "outstanding delightful amazing pleasant beautiful"
).split()
BLAME = (
    "awful terrible poor disappointing bad horrible dreadful mediocre shoddy ugly "
    "unpleasant useless miserable lousy annoying"
).split()
STRENGTHS = ("", "", "", "really ", "very ", "quite ", "absolutely ", "simply ", "so ")
PRAISE_FORMS = ("the {aspect} is {adverb}{word}", "I love the {aspect}", "I like the {aspect} a lot",
                "the {aspect} is not {blame} at all", "I have no complaints about the {aspect}", "{word} {aspect}")
BLAME_FORMS = ("the {aspect} is {adverb}{word}", "I hate the {aspect}", "I do not like the {aspect}",
               "the {aspect} is not {praise} at all", "the {aspect} let me down", "{word} {aspect}")
PRAISE_ENDINGS = ("I would buy it again.", "Highly recommended.", "Five stars.", "I am very happy with it.",
                  "Thank you!", "I will order another one.", "A perfect gift.")
BLAME_ENDINGS = ("I want my money back.", "Do not buy this.", "One star.", "I am sending it back.",
                 "Never again.", "I regret buying it.", "Avoid.")
MIXED_ENDINGS = ("Three stars.", "I am in two minds.", "Not sure I would buy it again.", "So it is a bit of both.")
OPENINGS = (
    "I bought this {noun} last week.", "I ordered the {noun} for my sister.", "We have had the {noun} for a month.",
    "Got the {noun} as a gift.", "My second {noun} from this shop.", "About the {noun}:", "This is my first {noun}.",
    "I use the {noun} at home.", "The {noun} came on Monday.",
)
