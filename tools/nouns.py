"""src/negatives/nouns.txt: common nouns for things that one can take a photo of, from WordNet 3.0.

    python3 -m tools.nouns /usr/share/wordnet src/negatives

The folder is that of Debian's package wordnet-base. A noun is taken if its first meaning is a thing of one of KINDS, which
was marked in WordNet's annotated texts (cntlist.rev) as often as that kind asks for, and if it is a single word in lower
case, the first of its synset. DROPPED are words that are vulgar, or that no photo shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Lexicographer file of WordNet (lexnames(5)): how often a noun must have been marked. The texts name few animals, plants
# and foods, and many tools; of parts of the body and substances most are medical and chemical.
KINDS = {
    5: 1,  # animals
    6: 1,  # artifacts
    8: 4,  # parts of the body
    13: 1,  # food
    17: 3,  # natural objects
    20: 1,  # plants
    27: 5,  # substances
}

DROPPED = set(
    """
    abstractionism accelerator active addition additive adjunct agent agglutinin aggregate alveolus anastomosis
    anode antibody antigen antiserum apparatus architecture argon arm art assembly atom backdrop bacteria
    barbital barbiturate base belly blood body bogy brace breakable breast bronchiole bronchus buffer bunk butt
    bypass cache carbon cathode cell cellulose chemical chest chlorine chlorothiazide chlorpromazine chock
    classic cocaine collage colors combine commodity commuter compact cone constituent contraceptive contrivance
    cortex coupling creche crowbait cud cur cusp cytoplasm diaphragm dichondra die dipole dive dope dose drug
    drygoods duplication dynamite effluent electron ell entrant enzyme epiphysis etcetera exit export facility
    facing fake fallout feed female flats flesh fluid formulation fraction fragment freight fuzz gadgetry
    gallows gastrocnemius gastronomy giant gland goad grotesque ground harem haven helium hilum holder hole
    hookup hormone hydrogen hypothalamus implement import impurity ingredient inset instrumentation interface
    interlayer iodide iodine ion joss kamikaze knit limb liquid lobscouse local longshot lumber makeup male
    mammal manifold marker material micelle micrometeorite mineral miniature mixture modernism moire molecule
    monochrome morgue motif munition neoclassicism neutrophil nitrogen nomia nourishment nucleus nude
    obstruction opening opium organ original output overhang overload oxygen oxytetracycline paramagnet
    parenchyma particle partition patina perspiration phloem phosphate piece pith pituitary plasma pleura
    polyphosphate potassium produce product prop protease protein protozoan pseudophloem realism release relic
    repertory repository reserpine rod round rump scapular scourge sediment seed segment septum serum setup
    sewage shackle shard shooter shortcut shunt slit slop slope snip snuffer solid solution sonar spore stamen
    starboard still straightaway strap stretch structure stuff submarine subsection surface suspension
    sustenance system thong thoroughfare throat thwart thyroglobulin thyroxine tissue tranquilizer transport
    transportation trap trigger universe vaccine vapor variable vein vertebrate viand vintage virus voodoo waste
    weapon whip whiteface works wrack xylem young
    """.split()
)

# What the first 29 lines of data.noun begin with: their numbers.
LICENSE_LINES = 29


def counts(folder: Path) -> dict[str, int]:
    """Every single word whose first meaning is of one of the kinds, with how often that meaning was marked."""
    found = {}
    for line in (folder / "cntlist.rev").read_text("ascii").splitlines():
        # A line: lemma%part_of_speech:lexicographer_file:lex_id:: number_of_the_meaning count
        key, meaning, count = line.split()
        lemma, place = key.split("%")
        part, kind, *_ = place.split(":")
        if part == "1" and meaning == "1" and lemma.isalpha() and int(count) >= KINDS.get(int(kind), sys.maxsize):
            found[lemma] = int(count)
    return found


def first_words(data: list[str]) -> set[str]:
    """The first words of all synsets of data.noun, as they are written: names begin with a capital letter."""
    return {line.split()[4] for line in data}


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    lines = (source / "data.noun").read_text("ascii").splitlines()
    nouns = set(counts(source)) & first_words(lines[LICENSE_LINES:]) - DROPPED
    (target / "nouns.txt").write_text("".join(f"{noun}\n" for noun in sorted(nouns) if len(noun) > 2))
    text = [line.split(None, 1)[1] if len(line.split()) > 1 else "" for line in lines[:LICENSE_LINES]]
    (target / "LICENSE-WordNet.txt").write_text("\n".join(line.rstrip() for line in text) + "\n")


if __name__ == "__main__":
    main()
