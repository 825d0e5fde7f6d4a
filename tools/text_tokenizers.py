# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of every kind that Millrace reads, trained here with Hugging Face tokenizers, and what that
library makes of some thousand odd texts. Used by make_text_golden.py.

Per text one 64-bit FNV-1a hash over: the ids as little-endian int32, decode() with and without special tokens, each
followed by a zero byte; so the files stay small and every id and byte counts."""
import io
import json
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

SCRIPTS = """Hello world, the quick brown fox jumps over the lazy dog's back.|Grüße aus München, schöne Straße!|Ça va très bien, où êtes-vous?
Привет, как дела? Нещо на Български|Γειά σου Κόσμε, τι κάνεις;|שלום עולם, מה שלומך?|مرحبا بالعالم، كيف حالك؟|नमस्ते दुनिया, आप कैसे हैं?
হ্যালো বিশ্ব|வணக்கம் உலகம்|హలో ప్రపంచం|ಹಲೋ ವರ್ಲ್ಡ್|ഹലോ വേൾഡ്|สวัสดีชาวโลก|ສະບາຍດີຊາວໂລກ|မင်္ဂလာပါကမ္ဘာ|សួស្តី​ពិភពលោក|你好，世界！我想在apple工作1314151天～
こんにちは世界、カタカナも|안녕하세요 세계|Xin chào thế giới, Cửa Việt|გამარჯობა მსოფლიო|Բարեւ աշխարհ|ሰላም ልዑል|ᏏᏲ ᎡᎶᎯ|ᐊᐃᓐᖓᐃ|བོད་སྐད་|ᠮᠣᠩᠭᠣᠯ|ꦲꦏ꧀ꦱꦫ|𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛|🙂👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽 emoji ✅""".replace("\n", "|").split("|")
CODE = ["def f(x):\n    return x**2  # square\n", "for (int i = 0; i < 10; ++i) {\n\tprintf(\"%d\\n\", i);\n}\r\n", "SELECT * FROM t WHERE a='it''s';",
        "<div class=\"x\">&amp;</div>", "{\"a\": [1, 2.5e-3, null, true]}", "https://example.org/a?b=c&d=%20e#f", "C:\\path\\file.txt", "x=1;y=-2;z=x+y;;;", "$$\\frac{a}{b}$$"]
ZOO = ["", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r", " \n", "\n ", " \n \n ", "\u00a0", "\u2003\u3000", "\u200b", "\u180e", "\u0085", "\u2028x\u2029",
       "\u00ad", "\ufeff", "\u202eabc\u202c", "\x00", "a\x00b", "\x01\x02\x7f", "\x1b[0m", "e\u0301", "\u00e9", "a\u0300\u0316\u0327", "\uac00", "\u1100\u1161", "ﬁ ﬂ ①②", "Å\u212b", "ﷺ",
       "İstanbul ıi", "ſs 'ſ", "▁", "▁▁ a", "a ▁b", "<0x0A>", "<0xE2><0x82>", "Ġ", "Ċ", "don't DON'T I'LL we'Ve 'tis ''s", "1 12 123 1234 12345 ١٢٣ ½ Ⅷ ²", "_a_ __init__", "'", "\"\"", "....", "!!!???",
       "\U0010ffff", "\ue000", "\u0378", "a" * 300, "ab" * 200, " " * 200, "\n" * 100, "9" * 100, "🙂" * 50, "é" * 100, "a b " * 100, "-" * 150, "x" * 31 + " " * 33]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "[INST]", "<|user|>", "<|im_start", "|>", "<|im_end|><|im_end|>", "< |endoftext|>", "<think>", "word"]


def texts(random):
    alphabet = "".join(SCRIPTS) + "".join(CODE) + " \n\t" * 20
    found = list(dict.fromkeys(ZOO + SCRIPTS + CODE + SPECIALS))
    pieces = SCRIPTS + CODE + [z for z in ZOO if z and len(z) < 60] + SPECIALS
    while len(found) < 5200:
        kind = random.random()
        if kind < 0.35:
            text = "".join(random.choice(pieces) for _ in range(random.randint(2, 4)))
        elif kind < 0.6:
            words = " ".join(SCRIPTS).split()
            text = random.choice(["", " ", "\n"]) + random.choice([" ", "  ", "\n", ", "]).join(random.choice(words) for _ in range(random.randint(1, 12)))
        elif kind < 0.8:
            text = "".join(random.choice(alphabet) for _ in range(random.randint(1, 30)))
        elif kind < 0.9:
            text = "".join(random.choice([" ", "\n", "\r", "\t", "a", "1", ".", "'s", "\u00a0", "é"]) for _ in range(random.randint(1, 20)))
        else:
            text = "".join(chr(random.choice([random.randint(32, 0x2FF), random.randint(0x300, 0x1FFF), random.randint(0x2000, 0x33FF), random.randint(0x1F300, 0x1F6FF)])) for _ in range(random.randint(1, 12)))
        found.append(text)
    return [t for t in dict.fromkeys(found)]


def corpus():
    return SCRIPTS * 20 + CODE * 20 + ["the cat sat on the mat and the dog", "tea kettle mug cup price 12345", "and then there were 1000 more of them"] * 10


def train(pre, normalizer=None, decoder=None, post=None, vocab=900, specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), trainer=None, model=None):
    tok = Tokenizer(model or models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    if pre:
        tok.pre_tokenizer = pre
    if decoder:
        tok.decoder = decoder
    kwargs = dict(vocab_size=vocab, special_tokens=list(specials), show_progress=False)
    tok.train_from_iterator(corpus(), trainer(kwargs) if trainer else trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **kwargs))
    if post:
        tok.post_processor = post(tok)
    return tok


def byte_level(*stages, prefix=False, regex=False):
    return pre_tokenizers.Sequence(list(stages) + [pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)])


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def around(before, after=()):
    def make(tok):
        names = list(before) + list(after)
        return processors.TemplateProcessing(single=" ".join(list(before) + ["$A"] + list(after)), special_tokens=[(n, tok.token_to_id(n)) for n in names])
    return make


SP = ("<unk>", "<s>", "</s>") + tuple("<0x%02X>" % b for b in range(256))


def sentencepiece(pre=None, normalizer=None, decoder=None, post=None):
    tok = train(pre, normalizer, decoder, vocab=1000, specials=SP, trainer=lambda k: trainers.BpeTrainer(limit_alphabet=120, **k),
                model=models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), post=post or around(["<s>"]))
    data = json.loads(tok.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


def changed(tok, change):
    data = json.loads(tok.to_str())
    change(data)
    return Tokenizer.from_str(json.dumps(data))


def string_merges(data):
    data["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in data["model"]["merges"]]


def added_zoo():
    tok = train(byte_level(split(QWEN2)), normalizers.NFC(), decoders.ByteLevel())
    tok.add_tokens([AddedToken("word", single_word=True), AddedToken("[INST]", lstrip=True), AddedToken("<think>", rstrip=True, normalized=False),
                    AddedToken("é", normalized=True), AddedToken("\n\n\n"), AddedToken("  ", normalized=False)])
    tok.add_special_tokens([AddedToken("<|user|>", lstrip=True, rstrip=True), "<s>", AddedToken("<s><s>")])
    return tok


def unigram(byte_fallback):
    trainer = lambda k: trainers.UnigramTrainer(unk_token="<unk>", **k)
    tok = train(pre_tokenizers.Metaspace(), normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), decoders.Metaspace(),
                around([], ["</s>"]), 800, SP if byte_fallback else SP[:3], trainer, models.Unigram())
    if byte_fallback:
        def change(data):
            data["model"]["byte_fallback"] = True
            data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
            data["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                               {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
        tok = changed(tok, change)
    return tok


def field(message, wanted):
    """The bytes of one length-delimited field of a protobuf message."""
    def number(at):
        value = shift = 0
        while True:
            value |= (message[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 128:
                return value, at
    at = 0
    while at < len(message):
        tag, at = number(at)
        if tag & 7 == 2:
            size, at = number(at)
            if tag >> 3 == wanted:
                return message[at:at + size]
            at += size
        else:
            at = {0: lambda: number(at)[1], 1: lambda: at + 8, 5: lambda: at + 4}[tag & 7]()
    raise ValueError("no field %d" % wanted)


def charsmap(rule):
    """The precompiled map that SentencePiece itself writes for one of its normalization rules."""
    import sentencepiece
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=written, model_type="char",
                                             hard_vocab_limit=False, normalization_rule_name=rule, minloglevel=2)
    return field(field(written.getvalue(), 3), 2)  # ModelProto.normalizer_spec, NormalizerSpec.precompiled_charsmap


def precompiled(rule, *after):
    return train(pre_tokenizers.Metaspace(), normalizers.Sequence([normalizers.Precompiled(charsmap(rule)), *after]), decoders.Metaspace(),
                 around([], ["</s>"]), 800, SP[:3], lambda k: trainers.UnigramTrainer(unk_token="<unk>", **k), models.Unigram())


def family():
    B = decoders.ByteLevel
    llama_decoder = lambda: decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    llama_normalizer = lambda: normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    yield "gpt2", train(pre_tokenizers.ByteLevel(add_prefix_space=False), None, B())
    yield "gpt2_prefix", changed(train(pre_tokenizers.ByteLevel(add_prefix_space=True), None, B(), lambda t: processors.ByteLevel(trim_offsets=False)), string_merges)
    yield "llama3", changed(train(byte_level(split(LLAMA3)), None, B(), around(["<|endoftext|>"])), lambda d: d["model"].update(ignore_merges=True))
    yield "qwen2", train(byte_level(split(QWEN2)), normalizers.NFC(), B())
    yield "phi4", train(byte_level(split(O200K)), None, B())
    yield "deepseek", train(byte_level(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK)), None, B())
    yield "smollm", train(byte_level(pre_tokenizers.Digits(individual_digits=True), regex=True), None, B())
    yield "starcoder", train(byte_level(pre_tokenizers.Digits(individual_digits=False), prefix=True, regex=True), normalizers.NFKC(), B())
    yield "bloom", train(byte_level(split(BLOOM)), None, B())
    yield "llama2", sentencepiece(None, llama_normalizer(), llama_decoder())
    yield "mistral", sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="first", split=False), None, llama_decoder())
    yield "metaspace", sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="always", split=True), normalizers.NFD(), decoders.Metaspace())
    yield "gemma", sentencepiece(split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"), decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))
    yield "unigram", unigram(False)
    yield "unigram_bytes", unigram(True)
    yield "precompiled", precompiled("nmt_nfkc", normalizers.Replace(Regex(" {2,}"), " "))
    yield "precompiled_fold", precompiled("nmt_nfkc_cf", normalizers.Strip())
    yield "word_end", train(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()]),
                            normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()]), decoders.BPEDecoder(suffix="</w>"),
                            None, 700, ("<unk>",), lambda k: trainers.BpeTrainer(end_of_word_suffix="</w>", limit_alphabet=100, **k), models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    yield "prefixes", train(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.CharDelimiterSplit("/")]), normalizers.NFKD(), None,
                            None, 700, ("<unk>",), lambda k: trainers.BpeTrainer(continuing_subword_prefix="##", limit_alphabet=100, **k), models.BPE(unk_token="<unk>", fuse_unk=False, continuing_subword_prefix="##"))
    yield "added", added_zoo()
    yield "contiguous", train(byte_level(split(r"\s", "contiguous"), split("[.,]", "merged_with_next"), split(r"\w+", "removed", True)), None, B())


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def make(root, random):
    folder = root / "tokenizers"
    folder.mkdir(exist_ok=True)
    found = texts(random)
    (folder / "texts.jsonl").write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in found), encoding="utf-8")
    for name, tok in family():
        data = json.loads(tok.to_str())
        (folder / (name + ".json")).write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        lines = []
        for text in found:
            ids = tok.encode(text).ids
            spoken = tok.decode(ids, skip_special_tokens=False), tok.decode(ids, skip_special_tokens=True)
            lines.append("%016x\n" % fnv(struct.pack("<%di" % len(ids), *ids) + b"".join(s.encode() + b"\0" for s in spoken)))
        (folder / (name + ".hashes")).write_text("".join(lines))
        print("tokenizer %s: %d tokens, %d texts" % (name, tok.get_vocab_size(), len(found)))
