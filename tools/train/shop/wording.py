# SPDX-License-Identifier: Apache-2.0
"""Word lists of the second training stage, which loosens the fixed templates of the first."""

LEADS = (
    "Bought: {h}", "Recent orders: {h}", "Order list: {h}", "Cart: {h}", "Basket: {h}", "Already owns: {h}", "Owned: {h}",
    "The customer has {h}", "This customer bought {h}", "They have {h}", "She ordered {h} last month",
    "We sold him {h}", "I own {h}", "I already have {h}", "My friend just bought {h}", "A client picked {h}",
    "Purchased so far: {h}", "Past purchases: {h}", "In the basket: {h}", "{h}", "He came in for {h}", "Sold: {h}",
)
REQUESTS = (
    "What next?", "Next item?", "Suggest one product.", "Recommend something.", "Which product fits?", "Any ideas?",
    "What would you offer them?", "One more item, please.", "Please recommend one.", "What is missing?",
    "Pick one item and give a reason.", "What should they buy?", "Give one suggestion.", "What goes with it?",
    "What else could we sell?", "Recommend the next purchase.", "Your suggestion?", "Suggest an add-on.",
)
OTHER_GOODS = (
    "sofa bicycle guitar television lawnmower freezer bookcase camera piano drill ladder wardrobe jacket kayak"
).split()

PARTS = (
    "handle lid strap seam button lock cover base rim lining cable screen sound motor wheel label pocket "
    "hook spring buckle spout cord frame hinge clip surface edge colour pattern fabric"
).split()
GOOD_PARTS = (
    "works fine", "is sturdy", "holds up well", "feels solid", "is smooth", "is spot on", "looks sharp",
    "does what it should", "is well made", "is just right", "never fails", "is a delight", "impressed me",
)
BAD_PARTS = (
    "broke", "came off", "got stuck", "is loose", "leaks", "rattles", "is bent", "was missing", "is cracked", "tore",
    "gave up", "squeaks", "fell off", "is useless", "is crooked", "split", "failed", "disappointed me", "came undone",
)
TIMES = ("", "", "", " after two days", " on the first day", " within a week", " almost at once", " after one wash", " last night")
GOOD_WORDS = (
    "sturdy soft warm quiet light handy stylish comfy reliable neat smooth bright roomy safe elegant quick clever "
    "charming practical robust cosy tidy lovely great good nice perfect"
).split()
BAD_WORDS = (
    "flimsy noisy clumsy rough dull slow bulky tacky fragile sticky leaky scratchy faulty overpriced weak blurry "
    "wobbly dirty broken stiff thin ugly bad poor awful heavy expensive loud"
).split()
WORD_FORMS = ("it is {s}{w}", "it feels {s}{w}", "so {w}", "{w} and {v}", "very {w}", "it is {w} and {v}", "it looks {w}")
GOOD_LINES = (
    "love it/great buy/money well spent/I could not be happier/exactly what I needed/very pleased/top quality/"
    "spot on/brilliant little thing/a joy to use/it beats my old one/it made my day/no regrets/well worth it/"
    "I am impressed/can only recommend it/my daughter is delighted/better than I expected/I would not change a thing/"
    "it does what it promises/it came on time/no problems at all/everything was fine/I am glad I chose this one"
).split("/")
BAD_LINES = (
    "waste of time/junk/very let down/a complete disaster/worst buy ever/I am asking for a refund/cheap tat/"
    "what a letdown/I sent it back/not impressed/would not recommend/I am disappointed/faulty from the start/"
    "not as described/a joke/it stopped working within a week/I expected better/save your money/"
    "it never arrived/they sent the wrong one/no reply from the shop/it was dead on arrival/I threw it away/"
    "nothing but trouble/it does not even switch on/I feel cheated"
).split("/")
REVIEW_PROMPTS = (
    "Is this review positive, negative or mixed? {r}", "Sentiment? {r}", "{r}\nSentiment:", "Positive, negative or mixed? {r}",
    "Sentiment of the review: {r}", "How does this customer feel, in one word? {r}", "Rate the mood in one word: {r}",
)
REVIEW_REASON_PROMPTS = (
    "Sentiment and reason: {r}", "Sentiment and a short reason: {r}", "Label this review and say why: {r}",
    "How does the customer feel and why? {r}", "{r}\nSentiment and reason:",
)
TURNS = (", but {}", ", yet {}", "; still, {}", ". That said, {}", ". On the other hand, {}", ", though {}", ". But {}", ", even if {}")
JOINS = (", {}", " and {}", ". {S}", "; {}", "! {S}")

NEW_COLOURS = "purple silver gold beige violet maroon khaki lilac".split()
FEATURE_WORDS = (
    "padded wide deep soft broad removable folding hidden lockable clear curved slim strong flat round engraved woven "
    "heated striped reinforced"
).split()
FEATURE_PARTS = (
    "strap pocket handle lid rim cover clip base button screen light wheel lining tray drawer hook label stand pouch buckle"
).split()
COUNTS = ("two", "three", "four", "six")
BLURB_PROMPTS = (
    "Write a blurb for {a} {colour} {material} {noun} by {brand} with {feature}.",
    "Write one line about the {colour} {material} {noun} from {brand}; it has {feature}.",
    "Advertise our {noun}: {colour}, {material}, made by {brand}, {feature}.",
    "Blurb for: {brand} {noun}, {material}, {colour}, {feature}",
    "I need a one-line blurb. {brand} {noun} in {colour} {material}. Feature: {feature}.",
    "Short ad text, please. {noun}; {colour}; {material}; {brand}; {feature}",
    "New product: {brand} {colour} {material} {noun} with {feature}. Write a blurb.",
)

TEXTS = (
    "I want {a}{colour}{material}{noun}{by_brand}{for_price}.",
    "Do you ship the {brand}{colour}{material}{noun} to Spain? The price was {price}.",
    "The {brand}{colour}{material}{noun} I ordered is broken.",
    "{noun}, {colour}{material}{brand}{price}",
    "Order: one {colour}{material}{noun}{by_brand}, {price}.",
    "{price} for the {brand}{colour}{material}{noun} seems fair.",
    "The price of our {colour}{material}{noun}{by_brand} is now {price}.",
    "Someone left a {colour}{material}{noun} in the shop.",
    "I need a {noun} made of {material_or_wood}{by_brand}, at most {price}.",
    "We have 3 of the {brand}{colour}{material}{noun} left, each at {price}.",
    "My {colour}{material}{noun}{by_brand} came with a loose screw.",
    "Is the {colour}{noun}{by_brand} still there? {price} is all I can pay.",
    "Our {brand}{noun} is {colour_only} and sells for {price}.",
    "Add this: {brand}{colour}{material}{noun}{comma_price}.",
)
