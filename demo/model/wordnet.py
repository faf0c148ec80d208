"""What kind of thing a WordNet noun is: the hypernym, read from WordNet 3.0's data.noun (wndb(5)).

A synset's line begins at the byte that its id names:
    offset lex_filenum n word_count(hex) word lex_id ... pointer_count pointer_symbol offset pos source ... | gloss
"""


class Nouns:
    """The nouns of WordNet."""

    def __init__(self, data):
        self.data = data

    def fields(self, offset):
        """The line at that byte, up to the gloss, split at blanks."""
        fields = self.data[offset:self.data.index(b"|", offset)].decode("ascii").split()
        if int(fields[0]) != offset:
            raise ValueError(f"data.noun has no synset at byte {offset}")
        return fields

    def lemma(self, offset):
        """The first word of a synset, as one writes it."""
        return self.fields(offset)[4].replace("_", " ")

    def hypernym(self, offset):
        """The synset of the first, most usual, kind that this one is of."""
        fields = self.fields(offset)
        pointers = fields[5 + 2 * int(fields[3], 16):]
        return next(int(target) for symbol, target in zip(pointers[::4], pointers[1::4]) if symbol == "@")

    def licence(self):
        """The licence that data.noun begins with: numbered, indented lines before the first synset."""
        lines = self.data[:self.data.index(b"\n00001740 ") + 1].decode("ascii").splitlines()
        return "\n".join(line.split(None, 1)[1].rstrip() if len(line.split()) > 1 else "" for line in lines) + "\n"
