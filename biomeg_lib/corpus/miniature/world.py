"""The biomedical half of the generated world: chemicals, diseases, genes, and the facts that hold between them.

All names are invented from realistic morphemes. A chemical's ending says what it does and what it is good for (as -olol
and -mycin do), so a model whose vocabulary keeps such endings together can guess at names it has never seen. Some
names are ordinary words (lead, shock, a brand called Harbour) that only their context makes an entity.
"""

from dataclasses import dataclass
from random import Random

from biomeg_lib.corpus.miniature.templates import words, zipf

SEED = "biomeg-miniature"

ROOTS = words(
    "vel dor zan tir mor quin lum brev cald ferb gar hyl jor kest lor mav nib ost plar rud sil torn urb vex wil xan "
    "yed zor bal cren dax fent gul hab lind musk nav pil trus"
)
LINKS = ["a", "e", "i", "o", "u", "ova", "ora", "elo", "ixa", "enda", "ito", "ury", "asi"]

# ending: (the label of its relation to genes, the kind of gene, the disease groups it treats)
CLASSES = {
    "mycin": ("INHIBITOR", "synthase", ("itis",)),
    "olol": ("ANTAGONIST", "receptor", ("pathy", "tension")),
    "tinib": ("INHIBITOR", "kinase", ("oma",)),
    "gliptin": ("INHIBITOR", "transporter", ("aemia",)),
    "azepam": ("AGONIST", "receptor", ("plegia", "plain")),
    "statin": ("INHIBITOR", "reductase", ("aemia", "osis")),
    "terol": ("AGONIST", "receptor", ("pathy", "algia")),
    "coxib": ("INHIBITOR", "oxidase", ("itis", "algia")),
    "amine": ("SUBSTRATE", "oxidase", ("plain", "deficiency")),
    "olide": ("INDIRECT-UPREGULATOR", "factor", ("osis", "syndrome")),
    "idol": ("ANTAGONIST", "receptor", ("plegia", "plain")),
    "oxan": ("ACTIVATOR", "kinase", ("osis", "syndrome")),
    "anoic acid": ("PRODUCT-OF", "synthase", ("deficiency", "algia")),
    "platin": ("INDIRECT-DOWNREGULATOR", "factor", ("oma",)),
    "code": ("INHIBITOR", "kinase", ("oma", "syndrome")),
    "metal": ("REGULATOR", "transporter", ("deficiency",)),
}
METALS = ("lead", "gold", "iron", "silver", "mercury", "tin")
BRANDS = words(
    "Harbour Summit Meadow Anchor Lantern Compass Falcon Orchard Beacon Pilgrim Sterling Marlin Cascade Juniper"
)
PLAIN_DISEASES = ("stroke", "shock", "depression", "cold", "cerebral insult", "fatigue", "arrest")

ORGANS = words(
    "nephr hepat gastr arthr neur dermat pneumon oste my aden col cyst rhin laryng cardi angi chondr "
    "encephal mening splen"
)
PREFIXES = words(
    "velo torno lumo cryso dacto perio xeno brachio galvo mero palio stego thamno rheo ochro nycto lepro tylo"
)
SUFFIXES = {
    "itis": "itis",
    "pathy": "opathy",
    "oma": "oma",
    "aemia": "aemia",
    "osis": "osis",
    "algia": "algia",
    "plegia": "oplegia",
}
TISSUES = words("renal hepatic cutaneous gastric ocular pulmonary synovial cortical")
EPONYMS = words("Varnholm Ostrev Lindqar Brenmoor Tessaly Kolvard Wexham Orsten Haldrik Pellmore Jurvik Cassowen")

GENE_KINDS = {
    "kinase": ("{}in-dependent kinase {}", "K"),
    "synthase": ("{}ate synthase {}", "S"),
    "oxidase": ("{}amine oxidase {}", "OX"),
    "reductase": ("{}yl reductase {}", "RD"),
    "receptor": ("{}in receptor {}", "R"),
    "factor": ("{}ocyte growth factor {}", "GF"),
    "transporter": ("{}ose transporter {}", "T"),
}

# Which entities (by `Entity.split`) each set of texts may name.
SPLITS = {"corpus": ("", "devel", "test"), "train": ("",), "devel": ("", "devel"), "test": ("", "test", "novel")}


@dataclass(frozen=True, slots=True)
class Entity:
    """A chemical, disease or gene.

    Attributes:
        kind: "chemical", "disease" or "gene".
        group: the ending's class, disease group or kind of gene, which the facts follow.
        abbreviation: short form introduced in brackets, or "".
        brand: trade name, or ""; always a word of ordinary language.
        split: "" when used everywhere; "devel" or "test" when absent from training sets of benchmarks; "novel" when in
            test sets alone, not even in the corpora.
    """

    kind: str
    name: str
    group: str
    abbreviation: str = ""
    brand: str = ""
    split: str = ""

    @property
    def forms(self) -> list[str]:
        """All names, the full one first."""
        return [form for form in (self.name, self.abbreviation, self.brand) if form]


@dataclass(frozen=True, slots=True)
class Cast:
    """Who one document is about: roles of the templates to entities, and the label between c (and k) and g."""

    roles: dict[str, Entity]
    label: str


class World:
    """All entities, most frequent first, and the facts between them."""

    def __init__(self) -> None:
        random = Random(f"{SEED} world")
        self.chemicals = _split(_chemicals(random))
        self.diseases = _split(_diseases(random))
        self.genes = _split(_genes(random))
        self.pools = {
            split: tuple(
                [e for e in kind if e.split in allowed] for kind in (self.chemicals, self.diseases, self.genes)
            )
            for split, allowed in SPLITS.items()
        }
        self.names = {split: {e.name for kind in pools for e in kind} for split, pools in self.pools.items()}
        self.targets: dict[str, list[tuple[Entity, str]]] = {}
        self.treats: dict[str, list[Entity]] = {}
        self.causes: dict[str, list[Entity]] = {}
        self.involves: dict[str, list[Entity]] = {}
        for chemical in self.chemicals:
            label, kind, groups = CLASSES[chemical.group]
            genes = _sample(random, [gene for gene in self.genes if gene.group == kind], 3)
            self.targets[chemical.name] = [(gene, label) for gene in genes]
            self.treats[chemical.name] = _sample(random, [d for d in self.diseases if d.group in groups], 3)
            self.causes[chemical.name] = _sample(random, [d for d in self.diseases if d.group not in groups], 3)
        self.ligands: dict[str, list[Entity]] = {gene.name: [] for gene in self.genes}
        for chemical in self.chemicals:
            for gene, _ in self.targets[chemical.name]:
                self.ligands[gene.name].append(chemical)
        for disease in self.diseases:
            drugs = [c for c in self.chemicals if disease in self.treats[c.name]]
            genes = [self.targets[c.name][0][0] for c in drugs[:2]] + _sample(random, self.genes, 2)
            self.involves[disease.name] = list(dict.fromkeys(genes))

    def cast(self, random: Random, split: str) -> Cast:
        """Draw a chemical by its frequency, and around it entities for which the world's facts hold."""
        chemicals, diseases, genes = self.pools[split]
        names = self.names[split]
        while True:
            c = zipf(random, chemicals)
            targets = [(g, label) for g, label in self.targets[c.name] if g.name in names]
            treated = [d for d in self.treats[c.name] if d.name in names]
            caused = [d for d in self.causes[c.name] if d.name in names]
            if targets and treated and caused:
                break
        g, label = zipf(random, targets)
        d = zipf(random, treated)
        cast = {"c": c, "g": g, "d": d, "s": zipf(random, caused)}
        allies = [k for k in self.ligands[g.name] if k is not c and k.name in names and CLASSES[k.group][0] == label]
        if allies:
            cast["k"] = zipf(random, allies)
        allied = {k.name for k in self.ligands[g.name]}
        cast["o"] = zipf(random, [o for o in chemicals if o.name not in allied])
        bound = {gene.name for role in "cko" if role in cast for gene, _ in self.targets[cast[role].name]}
        cast["x"] = zipf(random, [gene for gene in genes if gene.name not in bound])
        taken = {disease.name for disease in (*self.treats[c.name], *self.causes[c.name])}
        cast["m"] = zipf(random, [disease for disease in diseases if disease.name not in taken])
        involved = [gene for gene in self.involves[d.name] if gene.name in names and gene is not cast["x"]]
        cast["h"] = zipf(random, involved) if involved else g
        return Cast(cast, label)


def _sample(random: Random, items: list[Entity], count: int) -> list[Entity]:
    """Different items, drawn by frequency."""
    chosen: list[Entity] = []
    while len(chosen) < min(count, len(items)):
        item = zipf(random, items, 0.5)
        if item not in chosen:
            chosen.append(item)
    return chosen


def _split(entities: list[Entity]) -> list[Entity]:
    """Of every twenty ranks, give two to devel, three to test and one to the novel ones: each at all frequencies."""
    splits = {3: "devel", 5: "test", 8: "test", 13: "devel", 15: "test", 18: "novel"}
    return [
        Entity(e.kind, e.name, e.group, e.abbreviation, e.brand, splits.get(rank % 20, ""))
        for rank, e in enumerate(entities)
    ]


def _chemicals(random: Random) -> list[Entity]:
    endings = [ending for ending in CLASSES if ending != "metal"]
    prefixes = ("dihydro", "methoxy", "nor", "cyclo", "3-methyl", "N-acetyl", "alpha-", "hydroxy")
    salts = ("hydrochloride", "sulphate", "maleate", "citrate")
    entities: list[Entity] = []
    while len(entities) < 165:
        if len(entities) % len(endings) == 0:  # every class at every frequency, so that no relation is rare
            random.shuffle(endings)
        ending = endings[len(entities) % len(endings)]
        links = LINKS if ending[0] not in "aeio" else ["", "ix", "ond", "er", "asel", "ib"]
        name, abbreviation, style = random.choice(ROOTS) + random.choice(links) + ending, "", random.random()
        if ending == "code":
            name = "".join(random.choices("BDGKMNRSTVX", k=2)) + f"-{random.randint(101, 9899)}"
        elif style < 0.2:
            prefix = random.choice(prefixes)
            abbreviation = (prefix.strip("3-N")[0] + name[0] + name[len(name) // 2]).upper()
            name = prefix + name
        elif style < 0.3 and " " not in name:
            salt = random.choice(salts)
            abbreviation = (name[:2] + salt[0]).upper()
            name = f"{name} {salt}"
        if name not in [entity.name for entity in entities]:
            entities.append(Entity("chemical", name, ending, abbreviation))
    for place, brand in enumerate(BRANDS):  # every fifth of the frequent ones, so that brands fall into all splits
        drug = entities[place * 5 + 1]
        entities[place * 5 + 1] = Entity(drug.kind, drug.name, drug.group, drug.abbreviation, brand)
    for place, metal in enumerate(METALS):
        entities.insert(place * 9 + 4, Entity("chemical", metal, "metal"))
    return _distinct(entities)


def _diseases(random: Random) -> list[Entity]:
    made: dict[str, Entity] = {}
    while len(made) < 84:
        group = list(SUFFIXES)[len(made) % len(SUFFIXES)]
        name = random.choice(PREFIXES) + random.choice(ORGANS) + SUFFIXES[group]
        abbreviation = ""
        if random.random() < 0.25:
            modifier = random.choice(("chronic", "familial", "juvenile", "idiopathic"))
            abbreviation = (modifier[0] + name[0] + name[len(name) // 2] + SUFFIXES[group][-2]).upper()
            name = f"{modifier} {name}"
        made.setdefault(name, Entity("disease", name, group, abbreviation))
    for eponym in EPONYMS:
        noun = random.choice(("syndrome", "disease"))
        name = f"{eponym}{random.choice(('', chr(39) + 's'))} {noun}"
        made[name] = Entity("disease", name, "syndrome", (eponym[0] + noun[0]).upper())
    for tissue in TISSUES:
        name = f"{tissue} {random.choice(ROOTS)}ase deficiency"
        made[name] = Entity("disease", name, "deficiency", (tissue[0] + name.split()[1][0] + "D").upper())
        name = f"{random.choice(PREFIXES)}{tissue} {random.choice(('hypertension', 'hypotension'))}"
        made[name] = Entity("disease", name, "tension")
    entities = list(made.values())
    random.shuffle(entities)
    for place, name in enumerate(PLAIN_DISEASES):
        entities.insert(place * 6 + 2, Entity("disease", name, "plain"))
    return _distinct(entities)


def _genes(random: Random) -> list[Entity]:
    made: dict[str, Entity] = {}
    while len(made) < 100:
        kind = random.choice(list(GENE_KINDS))
        pattern, letters = GENE_KINDS[kind]
        root, number = random.choice(ROOTS), random.choice(("1", "2", "3", "4", "A", "B"))
        symbol = (root[:3] + letters).upper() + number
        made.setdefault(symbol, Entity("gene", pattern.format(root, number), kind, symbol))
    return list(made.values())


def _distinct(entities: list[Entity]) -> list[Entity]:
    """No two entities share an abbreviation: the later one goes without."""
    seen: dict[str, Entity] = {}
    kept = []
    for entity in entities:
        if entity.abbreviation in seen:
            entity = Entity(entity.kind, entity.name, entity.group, "", entity.brand)
        elif entity.abbreviation:
            seen[entity.abbreviation] = entity
        kept.append(entity)
    return kept
