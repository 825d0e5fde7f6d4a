# SPDX-License-Identifier: Apache-2.0
"""Sentiment of a review: positive, negative or mixed, on its own or with a reason."""

import json

from . import opinions
from .catalog import is_held_out
from .example import Example, sentence

WORD_PROMPTS = (
    "Sentiment of this review, one word: {review}",
    "Is this review positive, negative or mixed? {review}",
    "Classify the review as positive, negative or mixed.\n{review}",
    "One word, positive, negative or mixed:\n{review}",
    "Review: {review}\nSentiment:",
    "Review: {review}\nAnswer with one word: positive, negative or mixed.",
)
REASON_PROMPTS = (
    "Sentiment and reason: {review}",
    "What is the sentiment of this review, and why? {review}",
    "Review: {review}\nGive the sentiment and a short reason.",
    "Judge this review and say why.\n{review}",
    "Is the customer happy? Give the sentiment and a reason.\n{review}",
)
JSON_PROMPTS = (
    "Sentiment of this review as JSON: {review}",
    "Review: {review}\nAnswer in JSON with sentiment and reason.",
)


def clause(rng, good):
    """One opinion about one aspect, and the aspect it is about."""
    if rng.random() < 0.5:
        aspect = rng.choice(list(opinions.FIXED))
        return aspect, rng.choice(opinions.FIXED[aspect][0 if good else 1].split("/"))
    aspect = rng.choice(opinions.ASPECTS)
    praise, blame = rng.choice(opinions.PRAISE), rng.choice(opinions.BLAME)
    form = rng.choice(opinions.PRAISE_FORMS if good else opinions.BLAME_FORMS)
    text = form.format(aspect=aspect, adverb=rng.choice(opinions.STRENGTHS), word=praise if good else blame,
                       praise=praise, blame=blame)
    return aspect, text


def pick_clauses(rng, label):
    """The opinions of a review, each about another aspect, as (good, text) pairs."""
    count = rng.choice((2, 2, 2, 3)) if label == "mixed" else rng.choice((1, 1, 2, 2, 3))
    if label == "mixed":
        moods = [True, False] + [rng.random() < 0.5 for _ in range(count - 2)]
        rng.shuffle(moods)
    else:
        moods = [label == "positive"] * count
    used, clauses = set(), []
    for good in moods:
        aspect, text = clause(rng, good)
        while aspect in used:
            aspect, text = clause(rng, good)
        used.add(aspect)
        clauses.append((good, text))
    return clauses


def join_clauses(rng, clauses):
    """Links opinions into sentences, with 'but' where the mood turns."""
    text = sentence(clauses[0][1])
    for (before, _), (good, words) in zip(clauses, clauses[1:]):
        if before != good:
            link = rng.choice((", but {}", ", but {}", ". However, {}", ", although {}", ". Sadly, {}" if before else ". Still, {}"))
        else:
            link = rng.choice((" and {}", ", and {}", ". Also, {}", ". {S}"))
        text += link.format(words, S=sentence(words))
    return text + rng.choice((".", ".", ".", "!"))


def write_review(rng, noun, label, clauses):
    """The review's whole text."""
    parts = [join_clauses(rng, clauses)]
    if rng.random() < 0.5:
        parts.insert(0, rng.choice(opinions.OPENINGS).format(noun=noun))
    endings = {"positive": opinions.PRAISE_ENDINGS, "negative": opinions.BLAME_ENDINGS, "mixed": opinions.MIXED_ENDINGS}
    if rng.random() < 0.35:
        parts.append(rng.choice(endings[label]))
    return " ".join(parts)


def reason_for(label, clauses):
    """A short reason in the review's own words: its first opinion, or one of each mood."""
    if label != "mixed":
        return clauses[0][1]
    good = next(text for mood, text in clauses if mood)
    bad = next(text for mood, text in clauses if not mood)
    return f"{good}, but {bad}"


def make(rng, catalog, held_out):
    """Returns one sentiment job, or None when the clauses fall in the other split."""
    label = rng.choice(("positive", "negative", "mixed"))
    clauses = pick_clauses(rng, label)
    key = "|".join(sorted(text for _, text in clauses))
    if len(clauses) > 1 and is_held_out(key) != held_out or held_out and len(clauses) == 1:
        return None
    noun = rng.choice(list(catalog.products))
    review = write_review(rng, noun, label, clauses)
    reason = reason_for(label, clauses)
    style = rng.random()
    if style < 0.45:
        prompt, answer, form = rng.choice(WORD_PROMPTS), label, "word"
    elif style < 0.85:
        prompt, answer, form = rng.choice(REASON_PROMPTS), f"{sentence(label)}: {reason}.", "reason"
    else:
        prompt, form = rng.choice(JSON_PROMPTS), "json"
        answer = json.dumps({"sentiment": label, "reason": reason})
    return Example("sent", prompt.format(review=review), answer, key, {"label": label, "form": form})
