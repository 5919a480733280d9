"""CLIP's byte-level BPE for a small vocabulary: learned from captions, written as vocab.json and merges.txt."""
import collections
import json
import os
import re

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 32  # tokens of a prompt, begin and end included
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.UNICODE)


def byte_alphabet():
    """The character that stands for each byte; printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def words(text):
    return WORD.findall(text.lower())


def symbols(word):
    alphabet = byte_alphabet()
    s = [alphabet[b] for b in word.encode()]
    return s[:-1] + [s[-1] + "</w>"]


def learn(texts, merges_wanted):
    """The most frequent pairs, one after the other."""
    counts = collections.Counter(w for t in texts for w in words(t))
    vocabulary = {w: symbols(w) for w in counts}
    merges = []
    while len(merges) < merges_wanted:
        pairs = collections.Counter()
        for w, s in vocabulary.items():
            for pair in zip(s, s[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        vocabulary = {w: merge(s, best) for w, s in vocabulary.items()}
    return merges


def merge(s, pair):
    out, i = [], 0
    while i < len(s):
        if i + 1 < len(s) and (s[i], s[i + 1]) == pair:
            out.append(s[i] + s[i + 1])
            i += 2
        else:
            out.append(s[i])
            i += 1
    return out


def read_merges(text):
    """The merges of a merges.txt."""
    return [line.split(" ") for line in text.splitlines() if line and not line.startswith("#version")]


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        entries = list(byte_alphabet().values())
        entries += [e + "</w>" for e in entries] + ["".join(m) for m in self.merges] + [BEGIN, END]
        self.ids = {e: i for i, e in enumerate(entries)}
        self.cache = {}

    def __len__(self):
        return len(self.ids)

    def _word(self, word):
        if word not in self.cache:
            s = symbols(word)
            for pair in self.merges:
                s = merge(s, pair)
            self.cache[word] = [self.ids[x] for x in s]
        return self.cache[word]

    def __call__(self, text):
        """LENGTH ids: begin, the text, end, and end again as padding."""
        ids = [i for w in words(text) for i in self._word(w)][: LENGTH - 2]
        return [self.ids[BEGIN], *ids] + [self.ids[END]] * (LENGTH - 1 - len(ids))

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "vocab.json"), "w") as f:
            json.dump(self.ids, f, ensure_ascii=False)
        with open(os.path.join(folder, "merges.txt"), "w") as f:
            f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in self.merges))
        special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
        with open(os.path.join(folder, "special_tokens_map.json"), "w") as f:
            json.dump(special, f, indent=1)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump({**special, "do_lower_case": True, "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}, f, indent=1)
