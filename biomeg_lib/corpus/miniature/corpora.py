"""The miniature's corpora: PubMed baseline files, a PMC bulk package, general JSON lines, a WordPiece vocabulary."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

from biomeg_lib.corpus.miniature.biomedical import FILLERS, Paper, Writer, paper
from biomeg_lib.corpus.miniature.biomedical_templates import CAPTIONS
from biomeg_lib.corpus.miniature.compressed import gzip_open, write_tar_gz
from biomeg_lib.corpus.miniature.general import FIRST_NAMES, GeneralWorld
from biomeg_lib.corpus.miniature.templates import Sentence
from biomeg_lib.corpus.miniature.world import SEED, World

PUBMED_RECORDS, PMC_ARTICLES, GENERAL_DOCUMENTS, VOCABULARY_SIZE = 1200, 60, 1450, 1000
FIRST_PMID, FIRST_PMCID = 30000001, 1000001
JOURNALS = ("Annals of Invented Medicine", "Journal of Made-up Pharmacology", "Archives of Fictional Pathology")

PUBMED_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" \
"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">
<PubmedArticleSet>
"""
JATS_HEAD = """<!DOCTYPE article PUBLIC \
"-//NLM//DTD JATS (Z39.96) Journal Archiving and Interchange DTD v1.3 20210610//EN" \
"JATS-archivearticle1-3.dtd">
<article xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:xlink="http://www.w3.org/1999/xlink" \
article-type="research-article" xml:lang="en"><?properties open_access?>"""


@dataclass(frozen=True, slots=True)
class Record:
    """A PubMed record. An abstract's text is `LABEL: sentences` of its sections, of a plain one just its sentences."""

    pmid: int
    paper: Paper
    structured: bool
    empty: bool

    def placed(self) -> Iterator[tuple[str, int, Sentence]]:
        """("title" or "abstract", its offset there, sentence) of all sentences; a title ends in a full stop."""
        yield "title", 0, self.paper.title
        place = 0
        for heading, sentences in self.paper.sections if not self.empty else ():
            place += len(f"{heading}: ") if self.structured else 0
            for sentence in sentences:
                yield "abstract", place, sentence
                place += len(sentence.text) + 1


def pubmed_records(world: World) -> list[Record]:
    """All PubMed records, in the order of their numbers."""
    random = Random(f"{SEED} pubmed")
    records, pmid = [], FIRST_PMID
    for _ in range(PUBMED_RECORDS):
        records.append(Record(pmid, paper(world, random, "corpus"), random.random() < 0.6, random.random() < 0.02))
        pmid += random.randint(1, 9)
    return records


def write_pubmed(path: Path, records: list[Record]) -> None:
    """One PubMed baseline file; it ends with a deleted record, as update files do."""
    random = Random(f"{SEED} {path.name}")
    with gzip_open(path) as stream:
        stream.write(PUBMED_HEAD.encode())
        for record in records:
            stream.write(_pubmed_article(record, random).encode("utf-8"))
        deleted = f'<DeleteCitation>\n<PMID Version="1">{records[0].pmid - 1}</PMID>\n</DeleteCitation>\n'
        stream.write(f"{deleted}</PubmedArticleSet>\n".encode())


def _pubmed_article(record: Record, random: Random) -> str:
    paper = record.paper
    sections = []
    for heading, sentences in paper.sections:
        label = f' Label="{heading}" NlmCategory="{heading}"' if record.structured else ""
        sections.append((label, " ".join(_marked(sentence, "i", random) for sentence in sentences)))
    if not record.structured:
        sections = [("", " ".join(text for _, text in sections))]
    abstract = "".join(f"<AbstractText{label}>{text}</AbstractText>\n" for label, text in sections)
    notice = "<CopyrightInformation>© The Invented Society.</CopyrightInformation>\n" if random.random() < 0.3 else ""
    abstract = "" if record.empty else f"<Abstract>\n{abstract}{notice}</Abstract>\n"
    year, month, day = random.randint(1975, 2024), random.randint(1, 12), random.randint(1, 28)
    date = f"<Year>{year}</Year><Month>{month:02d}</Month><Day>{day:02d}</Day>"
    authors = "".join(
        f'<Author ValidYN="Y"><LastName>{last}</LastName><ForeName>{first}</ForeName></Author>'
        for first, last in _authors(random)
    )
    return f"""<PubmedArticle>
<MedlineCitation Status="MEDLINE" Owner="NLM">
<PMID Version="1">{record.pmid}</PMID>
<DateCompleted>{date}</DateCompleted>
<Article PubModel="Print">
<Journal><ISSN IssnType="Print">0000-0000</ISSN><JournalIssue CitedMedium="Print"><Volume>{year - 1960}</Volume>\
<PubDate><Year>{year}</Year></PubDate></JournalIssue><Title>{random.choice(JOURNALS)}</Title></Journal>
<ArticleTitle>{_marked(paper.title, "i", random)}.</ArticleTitle>
<Pagination><MedlinePgn>{random.randint(1, 400)}-8</MedlinePgn></Pagination>
{abstract}<AuthorList CompleteYN="Y">{authors}</AuthorList>
<Language>eng</Language>
<PublicationTypeList><PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList>
</Article>
<MedlineJournalInfo><Country>Nowhere</Country><MedlineTA>Invented</MedlineTA></MedlineJournalInfo>
<ChemicalList><Chemical><RegistryNumber>0</RegistryNumber>\
<NameOfSubstance UI="D000000">{escape(paper.cast.roles["c"].name)}</NameOfSubstance></Chemical></ChemicalList>
</MedlineCitation>
<PubmedData><PublicationStatus>ppublish</PublicationStatus>\
<ArticleIdList><ArticleId IdType="pubmed">{record.pmid}</ArticleId></ArticleIdList></PubmedData>
</PubmedArticle>
"""


def _authors(random: Random) -> list[tuple[str, str]]:
    return [(random.choice(FIRST_NAMES), FILLERS["person"](random)) for _ in range(random.randint(1, 4))]


def _marked(sentence: Sentence, tag: str, random: Random, references: int = 0) -> str:
    """A sentence as XML: some genes in italics, and for `references` > 0 sometimes a citation before the full stop."""
    text, end = "", 0
    for mention in sentence.mentions:
        text += escape(sentence.text[end : mention.start])
        name = escape(sentence.text[mention.start : mention.end])
        text += f"<{tag}>{name}</{tag}>" if mention.entity.kind == "gene" and random.random() < 0.3 else name
        end = mention.end
    text += escape(sentence.text[end:])
    if references and text.endswith(".") and random.random() < 0.3:
        number = random.randint(1, references)
        text = f'{text[:-1]} [<xref ref-type="bibr" rid="B{number}">{number}</xref>].'
    return text


def write_pmc(path: Path, world: World) -> None:
    """One bulk package of full-text articles."""

    def members() -> Iterator[tuple[str, str]]:
        random = Random(f"{SEED} pmc")
        number = FIRST_PMCID
        for _ in range(PMC_ARTICLES):
            article = paper(world, random, "corpus", related=2, turns=5, long=True)
            yield f"PMC000xxxxxx/PMC{number - 1000000}.xml", _jats(article, number - 1000000, random)
            number += random.randint(1, 40)

    write_tar_gz(path, members())


def _jats(article: Paper, number: int, random: Random) -> str:
    references = random.randint(8, 20)
    writer = Writer(random, article.cast)
    abstract = " ".join(_marked(s, "italic", random) for _, text in article.sections for s in text[:2])
    sections = []
    for place, (heading, sentences) in enumerate(article.sections, 1):
        paragraphs, rest = [], list(sentences)
        while rest:
            size = random.randint(4, 7)
            part, rest = rest[:size], rest[size:]
            paragraphs.append(f"<p>{' '.join(_marked(s, 'italic', random, references) for s in part)}</p>")
        if heading == "Methods":  # one level of subsections, as methods have
            half = len(paragraphs) // 2
            first, second = "\n".join(paragraphs[:half]), "\n".join(paragraphs[half:])
            paragraphs = [
                f'<sec id="s{place}a"><title>Study design</title>\n{first}\n</sec>',
                f'<sec id="s{place}b"><title>Measurements</title>\n{second}\n</sec>',
            ]
        if heading == "Results":
            paragraphs.insert(1, _table(writer, random))
            paragraphs.append(
                f'<fig id="F1"><label>Figure 1</label><caption><p>{escape(writer.write(CAPTIONS).text)}</p></caption>'
                '<graphic xlink:href="fig1.jpg"/></fig>'
            )
        sections.append(f'<sec id="s{place}"><title>{heading}</title>\n' + "\n".join(paragraphs) + "\n</sec>")
    people = "".join(
        f"<contrib><name><surname>{last}</surname><given-names>{first}</given-names></name></contrib>"
        for first, last in _authors(random)
    )
    cited = "\n".join(
        f'<ref id="B{i}"><label>{i}</label><mixed-citation><string-name>{FILLERS["person"](random)} A</string-name>. '
        f"<article-title>On an invented matter</article-title>. <source>{random.choice(JOURNALS)}</source> "
        f"<year>{random.randint(1970, 2020)}</year></mixed-citation></ref>"
        for i in range(1, references + 1)
    )
    body = "\n".join(sections)
    return f"""{JATS_HEAD}<front><journal-meta>\
<journal-title-group><journal-title>{random.choice(JOURNALS)}</journal-title></journal-title-group>\
<issn pub-type="epub">0000-0000</issn></journal-meta>
<article-meta><article-id pub-id-type="pmc">{number}</article-id>
<title-group><article-title>{_marked(article.title, "italic", random)}</article-title></title-group>
<contrib-group>{people}</contrib-group>
<pub-date pub-type="epub"><year>{random.randint(1999, 2024)}</year></pub-date>
<permissions><license license-type="open-access">\
<license-p>An invented article, free for any use.</license-p></license></permissions>
<abstract><p>{abstract}</p></abstract>
<kwd-group><kwd>{escape(article.cast.roles["c"].name)}</kwd></kwd-group></article-meta></front>
<body>
{body}
</body>
<back><ack><title>Acknowledgements</title>\
<p>We thank {FILLERS["person"](random)} of {FILLERS["firm"](random)} for technical help.</p></ack>
<ref-list><title>References</title>
{cited}
</ref-list></back></article>
"""


def _table(writer: Writer, random: Random) -> str:
    rows = "".join(
        f"<tr><td>{escape(writer.cast.roles[role].name)}</td><td>{random.randint(1, 99)}</td><td>0.5</td></tr>"
        for role in "cosm"
    )
    caption = escape(writer.write(CAPTIONS).text)
    return (
        f'<table-wrap id="T1"><label>Table 1</label><caption><p>{caption}</p></caption><table>'
        f"<thead><tr><th>Group</th><th>Before</th><th>After</th></tr></thead><tbody>{rows}</tbody></table></table-wrap>"
    )


def general_documents(world: GeneralWorld) -> list[dict[str, str]]:
    """Documents {id, source, text}: a headline and paragraphs, with blank lines between."""
    random = Random(f"{SEED} general documents")
    sources = {"town": "places", "river": "places", "person": "people", "club": "sport", "company": "trade"}
    documents = []
    for number in range(GENERAL_DOCUMENTS):
        subject = world.subject(random)
        source = sources.get(subject.kind, "weather and feasts")
        paragraphs = [" ".join(sentence.text for sentence in part) for part in world.document(random, subject)]
        documents.append({"id": f"{source.split()[0]}/{number:04d}", "source": source, "text": "\n\n".join(paragraphs)})
    return documents


def write_general(path: Path, documents: list[dict[str, str]]) -> None:
    """JSON lines."""
    with gzip_open(path) as stream:
        for document in documents:
            stream.write((json.dumps(document, ensure_ascii=False) + "\n").encode("utf-8"))


def wordpiece_vocabulary(texts: list[str], size: int = VOCABULARY_SIZE) -> list[str]:
    """A cased WordPiece vocabulary: special tokens, characters, pieces, and the commonest words of `texts`.

    The pieces are the strings of two to four characters that most different words start with or go on with. There is
    no merging as in BERT's own, and none is needed: it has to suit general text, and to know nothing of any other.
    """
    words: Counter[str] = Counter()
    for text in texts:
        words.update("".join(c if c.isalnum() else " " for c in text).split())
    characters = [chr(code) for code in range(33, 127)] + list("°µé\u2013")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    pieces += [f"##{character}" for character in characters if character.isalnum()]
    shared: Counter[str] = Counter()
    for word in words:
        for length in range(2, min(5, len(word))):
            shared[word[:length]] += length
            for start in range(1, len(word) - length + 1):
                shared[f"##{word[start : start + length]}"] += length
    ranked = [sorted(counter.items(), key=lambda item: (-item[1], item[0])) for counter in (shared, words)]
    known = set(pieces)
    for entries, limit in zip(ranked, (len(pieces) + (size - len(pieces)) // 3, size), strict=True):
        for entry, _ in entries:
            if len(pieces) == limit:
                break
            if entry not in known:
                known.add(entry)
                pieces.append(entry)
    return pieces
