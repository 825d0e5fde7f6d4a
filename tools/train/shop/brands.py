# SPDX-License-Identifier: Apache-2.0
"""Brands: which categories each one serves and its palette; all names are invented."""

COLOURS = (
    "red blue navy green olive sage black white cream grey charcoal yellow "
    "mustard orange pink plum teal brown ivory turquoise"
).split()

NAMES = (
    "Harlow Brindle Tarnwick Oakmere Lunden Fjordan Pellow Quillon Marrow Sorrel "
    "Ashby Veldt Corvane Dunlin Esker Finch Grovely Hestia Inglow Juniper "
    "Kestrel Larkin Mossley Norrin Ostrel Penrose Ravel Selwick Thistle Umber "
    "Wexley Yarrow"
).split()

FEATURES = {
    "tea and coffee": ["a cool-touch handle", "a tight-fitting lid", "a fine spout", "a double wall"],
    "baking": ["a non-slip base", "rounded corners", "a hanging loop", "a non-stick coating"],
    "cooking": ["a riveted handle", "a non-stick coating", "a long handle", "a lifetime guarantee"],
    "dining": ["a hand-finished rim", "a matt glaze", "a gift box", "a stackable shape"],
    "bedroom": ["a washable cover", "a hidden zip", "a two-year warranty", "a quilted edge"],
    "bathroom": ["a hanging loop", "a non-slip base", "a rust-free finish", "a quick-dry weave"],
    "garden": ["a weatherproof finish", "a long handle", "a built-in drain", "a ten-year guarantee"],
    "camping": ["a carry bag", "reflective seams", "a waterproof zip", "a folding frame"],
    "cycling": ["reflective strips", "a quick-release mount", "a rain cover", "a two-year warranty"],
    "fitness": ["a carry strap", "a non-slip surface", "an adjustable fit", "a washable cover"],
    "desk": ["a ribbon marker", "a magnetic clasp", "rounded corners", "a gift box"],
    "electronics": ["fast charging", "a braided cord", "a two-year warranty", "touch controls"],
    "pets": ["reflective seams", "a washable cover", "a quick-release clip", "a non-slip base"],
    "children": ["rounded corners", "water-based paint", "a storage bag", "a washable cover"],
    "travel": ["a hidden pocket", "a water-repellent coating", "smooth zips", "a ten-year guarantee"],
    "crafts": ["a storage pouch", "a smooth finish", "a fold-out tray", "a gift box"],
}

SYLLABLES = (
    "bra cor del fen gar hol jin kel lor mav nor pen quin ros sel tav ul vin wes yor zan "
    "dra mel tor bex lan vey dor ton wick ley ne ra mo ly na ris go bel den"
).split()
