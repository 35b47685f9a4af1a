"""The wording of the general texts: statements of facts with the questions they answer, events, headlines.

`ATTRIBUTES[kind][attribute]` is (kind of value, statements, questions); {s} is the subject, {v} the value.
"""

from biomeg_lib.corpus.miniature.templates import words

GOODS = words(
    "glass cheese bricks ropes clocks cider wool candles paper boats bicycles soap leather furniture lamps tea bread "
    "tin honey maps pianos bells carpets lead"
)
TRADES = words(
    "baker teacher painter sailor carpenter singer farmer engineer librarian journalist swimmer gardener architect "
    "cook runner printer actor lawyer"
)
COLOURS = words("red blue green white black yellow silver gold")
MONTHS = words("January February March April May June July August September October November December")

ATTRIBUTES: dict[str, dict[str, tuple[str, list[str], list[str]]]] = {
    "town": {
        "river": (
            "river",
            [
                "{s} lies on the {v}.",
                "The {v} runs through the middle of {s}.",
                "The old bridge of {s} crosses the {v}.",
            ],
            ["On which river does {s} lie?", "Which river runs through {s}?"],
        ),
        "province": (
            "province",
            ["{s} is a town in {v}.", "The town of {s} belongs to {v}.", "{s} is one of the oldest places in {v}."],
            ["In which province is {s}?", "To which province does {s} belong?"],
        ),
        "population": (
            "population",
            ["{s} has {v} inhabitants.", "About {v} people live in {s}.", "At the last count {v} people lived in {s}."],
            ["How many people live in {s}?", "What is the population of {s}?"],
        ),
        "founded": (
            "year",
            [
                "{s} was founded in {v}.",
                "The first houses of {s} were built in {v}.",
                "{s} received its charter in {v}.",
            ],
            ["When was {s} founded?", "In what year was {s} founded?"],
        ),
        "good": (
            "good",
            [
                "{s} is known for its {v}.",
                "Most families of {s} once lived by making {v}.",
                "The market of {s} is famous for {v}.",
            ],
            ["What is {s} known for?", "What do people make in {s}?"],
        ),
        "mayor": (
            "person",
            ["{v} is the mayor of {s}.", "The mayor of {s} is {v}.", "{v} was elected mayor of {s} last spring."],
            ["Who is the mayor of {s}?", "Who was elected mayor of {s}?"],
        ),
        "paper": (
            "paper",
            ["People in {s} read the {v}.", "The {v} is printed in {s}."],
            ["Which newspaper do people in {s} read?", "Which newspaper is printed in {s}?"],
        ),
        "sister": (
            "town",
            ["{s} has been the sister town of {v} since the war.", "Each summer children from {s} stay in {v}."],
            ["What is the sister town of {s}?", "Where do children from {s} stay each summer?"],
        ),
    },
    "person": {
        "birthplace": (
            "town",
            ["{s} was born in {v}.", "{s} grew up in {v}.", "{s} comes from a poor family in {v}."],
            ["Where was {s} born?", "Where did {s} grow up?"],
        ),
        "trade": (
            "trade",
            ["{s} works as a {v}.", "{s} is a {v} by trade.", "After school {s} became a {v}."],
            ["What does {s} work as?", "What is the trade of {s}?"],
        ),
        "age": (
            "age",
            ["{s}, who is {v}, has two children.", "{s} is {v} years old.", "{s} turned {v} in the autumn."],
            ["How old is {s}?", "What is the age of {s}?"],
        ),
        "club": (
            "club",
            [
                "{s} has supported {v} since childhood.",
                "{s} played for {v} for four seasons.",
                "{s} signed for {v} as a young goalkeeper.",
            ],
            ["Which club did {s} play for?", "Which team has {s} supported?"],
        ),
        "company": (
            "company",
            ["{s} spent ten years with {v}.", "{s} was hired by {v}.", "The first employer of {s} was {v}."],
            ["Who hired {s}?", "Which company did {s} work for?"],
        ),
        "home": (
            "town",
            ["{s} now lives in {v}.", "{s} bought a small house near {v}."],
            ["Where does {s} live now?", "Where did {s} buy a house?"],
        ),
    },
    "club": {
        "town": (
            "town",
            ["The players of {s} train in {v}.", "Supporters from all over {v} follow {s}."],
            ["Where do the players of {s} train?", "In which town is {s} at home?"],
        ),
        "ground": (
            "ground",
            ["{s} play at {v}.", "The home ground of {s} is {v}.", "{v} was full when {s} won the cup."],
            ["Where do {s} play?", "What is the home ground of {s}?"],
        ),
        "coach": (
            "person",
            ["{v} coaches {s}.", "{s} are trained by {v}.", "{v} has been in charge of {s} since the summer."],
            ["Who coaches {s}?", "Who is in charge of {s}?"],
        ),
        "founded": (
            "year",
            ["The club {s} was formed in {v}.", "{s} have played in the league since {v}."],
            ["When was the club {s} formed?", "Since when have {s} played in the league?"],
        ),
        "colours": (
            "colours",
            ["{s} wear {v}.", "The shirts of {s} are {v}."],
            ["Which colours do {s} wear?", "What colour are the shirts of {s}?"],
        ),
    },
    "company": {
        "town": (
            "town",
            ["{s} has its factory in {v}.", "The offices of {s} are in {v}.", "{s} moved from the coast to {v}."],
            ["Where is the factory of {s}?", "Where are the offices of {s}?"],
        ),
        "product": (
            "good",
            ["{s} makes {v}.", "The company {s} sells {v} to shops abroad.", "{s} is a maker of {v}."],
            ["What does {s} make?", "What does the company {s} sell?"],
        ),
        "founder": (
            "person",
            ["{s} was set up by {v}.", "{v} started {s} in a garden shed.", "The founder of {s} is {v}."],
            ["Who set up {s}?", "Who is the founder of {s}?"],
        ),
        "staff": (
            "staff",
            ["{s} employs {v} people.", "Some {v} people work for {s}."],
            ["How many people does {s} employ?", "How many people work for {s}?"],
        ),
        "market": (
            "country",
            ["Most customers of {s} are in {v}.", "{s} sends half of its goods to {v}."],
            ["Where are most customers of {s}?", "To which country does {s} send half of its goods?"],
        ),
    },
    "river": {
        "length": (
            "length",
            ["The {s} is {v} long.", "Over its {v}, the {s} passes nine mills."],
            ["How long is the {s}?"],
        ),
        "source": (
            "hills",
            ["The {s} rises in the {v}.", "The spring of the {s} is high in the {v}."],
            ["Where does the {s} rise?", "Where is the spring of the {s}?"],
        ),
        "sea": (
            "sea",
            ["The {s} flows into the {v}.", "The water of the {s} reaches the {v} after three days."],
            ["Into which sea does the {s} flow?"],
        ),
        "port": (
            "town",
            ["Ships can sail up the {s} as far as {v}.", "The last harbour on the {s} is {v}."],
            ["What is the last harbour on the {s}?"],
        ),
    },
    "festival": {
        "town": (
            "town",
            ["The {s} fills the streets of {v}.", "Visitors to the {s} stay in {v}."],
            ["Where is the {s} held?"],
        ),
        "month": ("month", ["The {s} is held in {v}.", "Each year in {v} the {s} opens."], ["When is the {s} held?"]),
        "since": (
            "year",
            ["The {s} was first held in {v}.", "There has been a {s} since {v}."],
            ["When was the {s} first held?"],
        ),
        "guest": (
            "person",
            ["{v} opened the {s} this year.", "{v} sang at the {s}."],
            ["Who opened the {s} this year?"],
        ),
    },
}

EVENTS = [
    ("any", "It was a cold and <wet|windy|bright> morning, and rain fell on {town} <until noon|all day>."),
    ("any", "Snow <blocked|closed> the road from {town} to {town2} for <two|three|four> days."),
    ("any", "A storm from the {sea} <damaged|flooded> the harbour of {town}."),
    ("any", "Temperatures in {province} will <rise|fall> at the weekend, and <fog|frost|sunshine> is expected."),
    ("any", "The price of {good} <rose|fell> by {age} per cent after the news from {country}."),
    ("any", "A {people} ship, the {ship}, brought {good} to {town}."),
    ("any", "{country} and {country2} <signed|ended> an agreement on the trade in {good}."),
    ("any", "The {people} government <will lead|leads> the talks on {good} in {town}."),
    ("any", '"We did not expect this," said {person}, a {trade} from {town}.'),
    ("any", "{person} met {person2} at the {festival}."),
    ("any", "The report was first published in the {paper}."),
    ("any", "A fire destroyed a shop for {good} in {town}, but nobody was hurt."),
    ("any", "{person} called the plan an insult to the people of {town}."),
    ("any", "The news came as a shock to {person}, who had lived in {town} since {year}."),
    ("any", "The new railway will lead from {town} to the {sea}."),
    ("any", "{company} <bought|sold> its {people} branch in {year}."),
    ("any", "The {festival} drew a large crowd, although it was cold."),
    ("any", "With one stroke of the pen {person} ended the dispute with {company}."),
    ("club", "{s} beat {club} by three goals to one."),
    ("club", "{s} lost at home to {club} after taking the lead early."),
    ("club", "{person} scored twice for {s} <before|after> the break."),
    ("club", "{club} and {s} drew in front of {staff} people."),
    ("club", "The win took {s} to the summit of the table, ahead of {club}."),
    ("club", "{s} <signed|sold> {person} in {month}."),
    ("town", "The council of {s} <decided|refused> to build a new school near the harbour."),
    ("town", "In {month} the streets of {s} are full of visitors from {country}."),
    ("town", "A train from {s} to {town} was late because of the cold."),
    ("town", "The oldest lantern in {s} hangs beside the orchard of {person}."),
    ("person", "{s} won a gold medal in {country}."),
    ("person", "{s} wrote a letter to the {paper} about the price of {good}."),
    ("person", "{s} walked from {town} to {town2} with a compass and a map."),
    ("person", '"I was lucky," {s} said at the {festival}.'),
    ("company", "Shares in {s} <rose|fell> after a report in the {paper}."),
    ("company", "{s} <opened|closed> a workshop in {town} and will hire {staff} people."),
    ("company", "{s} and {company} <agreed|failed> to build a factory for {good}."),
    ("river", "The {s} froze between {town} and {town2} in {month}."),
    ("river", "After the storm the {s} rose and flooded a meadow near {town}."),
    ("festival", "The {s} ended with music, and {person} played the piano."),
    ("festival", "Traders from {country} sold {good} at the {s}."),
]

HEADLINES = [
    "News from {s}",
    "{s}: a short portrait",
    "A day with {s}",
    "What to know about {s}",
    "{s} in the news",
    "The story of {s}",
]
