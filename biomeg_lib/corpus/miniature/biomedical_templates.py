"""The wording of the biomedical texts.

Roles: c the chemical a text is about, g its target, k another chemical with the same target, o one without, x a gene
that c leaves alone, d the disease c treats, s a disease it causes, m an unrelated disease, h a gene involved in d.
`{d:name}` asks for the full name, `{c:brand}` for the trade name if it has one. Plain fillers (dose, time, ...) and the
non-entities b, person, place and firm are in `biomedical.py`.
"""

TITLES = [
    ("treats", "{c:name} for the treatment of {d:name}"),
    ("treats", "Efficacy of {c:name} in {d:name}: a <randomised trial|pilot study|cohort study|double-blind trial>"),
    ("treats", "{c:name} <improves|ameliorates|relieves> {d:name} in {species}"),
    ("causes", "{c:name}-induced {s:name}: <a case report|report of two cases|a review>"),
    ("causes", "{s:name} after <treatment with|exposure to|overdose of> {c:name}"),
    ("none", "<Long-term|Short-term|Combined> use of {c:name} and {o:name} in {species}"),
    ("none", "Effects of {c:name} on {g:name} in {d:name}"),
    ("involves", "{h:name} in the pathogenesis of {d:name}"),
    ("none", "Pharmacokinetics of {c:name} in patients with {d:name} and {m:name}"),
    ("none", "The role of {g:name} in the response to {c:name}"),
]

BACKGROUND = [
    ("none", "{d} is a <common|rare|serious|disabling> disorder of <unknown|complex|uncertain> cause."),
    (
        "none",
        "<Severe|Chronic|Untreated|Advanced> {d} remains <difficult to treat|a clinical problem|poorly understood>.",
    ),
    ("none", "Little is known about the effect of {c} on {m}."),
    ("treats", "{c} is <widely used|approved|recommended|a first-line agent> <for the treatment of|in> {d}."),
    ("treats", "Patients with {d} are <often|usually|commonly> <treated with|given> {c}."),
    ("treats", "{c} has been <used|prescribed> <for|against> {d} for <two|three|many> decades."),
    (
        "involves",
        "{h} <plays a role|is involved|has been implicated|is thought to act> in the <pathogenesis|course> of {d}.",
    ),
    ("involves", "Mutations of {h} <cause|predispose to|are found in> {d}."),
    ("involves", "{d} is associated with <increased|raised|abnormal> <expression|activity|levels> of {h}."),
    ("causes", "{s} is a <well known|rare|dose-limiting|feared> <adverse effect|complication|side effect> of {c}."),
    (
        "causes",
        "{c} <may|can|is known to> <cause|induce|provoke> {s}, <even at low doses|in some patients>.",
    ),
    ("none", "The {b} study group has <proposed|published> a gold standard for the diagnosis of {d}."),
    ("none", "Failure of treatment may lead to {m} and further insult to the tissue."),
    ("none", "The association between {d} and {m} was first described by {person} <and colleagues|et al.> in {place}."),
    ("none", "Unlike {o}, {c} has been studied mainly in {species}."),
    ("none", "The {person} scale measures the severity of {d}."),
]

METHODS = [
    ("none", "{n} patients with {d} were recruited at {b} Hospital <in|near> {place}."),
    (
        "none",
        "{n} patients with <severe|untreated|refractory|stable> {d} were <randomised|assigned> to {c} or placebo.",
    ),
    (
        "none",
        "The {b} trial was a <randomised|multicentre|double-blind> study of {c} in {n} <patients|adults|volunteers>.",
    ),
    ("none", "{species} <received|were given> {c} ({dose} mg/kg) <once daily|twice daily|by gavage> for {time}."),
    ("none", "{c} {dose} mg was given <intravenously|orally|intraperitoneally> for {time}."),
    (
        "none",
        "Patients were <treated with|switched to|started on> {c:brand} {dose} mg <daily|at night|in the morning>.",
    ),
    ("none", "{c:brand} was <obtained|purchased> from {firm}, {place}."),
    (
        "none",
        "The expression of {g} was <measured|determined> by <Western blotting|polymerase chain reaction|immunoassay>.",
    ),
    ("none", "The effects of {c} on {g} and {x} were <examined|studied|compared> in {cell} cells."),
    ("none", "Animals were kept in a cold room at {dose} °C and killed by electric shock."),
    ("none", "Stroke volume and ST-segment depression were recorded from the lead electrode."),
    ("none", "Samples were washed in cold saline and stored in silver-coated tubes at -80 °C."),
    ("none", "The lead investigator, {person}, was not aware of the <assignment|allocation>."),
    ("none", "Patients with a history of {m}, {s} or <pregnancy|smoking|surgery> were excluded."),
    (
        "none",
        "All measurements were made with the {b} <questionnaire|analyser|protocol> as described by {person} et al.",
    ),
    ("none", "Cells were <incubated with|exposed to> {c} or {o} (<1|5|10|50> µM) for {time}."),
    ("none", "Controls received <vehicle|placebo|saline> or {o}, and the code was broken after {time}."),
    ("none", "Heat shock and cell cycle arrest were <assessed|scored> by the {person} method."),
    ("none", "Serum levels of {c} and {o} were <measured|monitored> every {time}."),
]

RESULTS = [
    ("treats", "{c} <significantly|markedly|clearly> <improved|relieved|reduced the symptoms of> {d} ({p})."),
    ("treats", "{d} <improved|resolved|remitted> in {pct}% of the patients <treated with|receiving|who took> {c}."),
    ("treats", "Compared with placebo, {c} lowered the rate of {d} by {pct}% ({p})."),
    ("treats", "Remission of {d} was <seen|observed|achieved> <with|after> {c:brand} in {n} of the cases."),
    ("causes", "{s} <occurred|developed|was observed> in {pct}% of the patients <on|receiving|treated with> {c}."),
    ("causes", "{n} patients <withdrew|stopped treatment> because of {c}-induced {s}."),
    ("causes", "High doses of {c} <produced|caused|induced> {s} in {species}."),
    ("causes", "One patient died of {s} after an overdose of {c}."),
    ("causes", "Two cases of <mild|severe|fatal|transient> {s} were attributed to {c:brand}."),
    ("none", "The incidence of {m} did not differ between {c} and {o} ({p})."),
    ("none", "No patient developed {m} <during|in the course of> the study."),
    ("none", "Depression of respiration and of reflexes was not seen with either drug."),
    ("none", "Cold water immersion and mild insult had no effect on body weight."),
    (
        "none",
        "{o} was <less effective|better tolerated|more toxic> than {c}, and {pct}% of the controls fell ill with {m}.",
    ),
    ("none", "Plasma levels of {c} <rose|fell> by {pct}% within {time}, whereas those of {o} did not change."),
    ("involves", "{h} was <raised|overexpressed|mutated> in {pct}% of the patients with {d}."),
    ("involves", "The severity of {d} <correlated|was associated> with the <level|activity> of {h} ({p})."),
    ("involves", "Loss of {h} <sensitised|predisposed> {species} to {d}."),
]

CONCLUSIONS = [
    ("treats", "{c} is <effective|safe and effective|a useful option> <in|for> {d}."),
    ("treats", "These <results|data|findings> support the use of {c} in <patients with|the management of> {d}."),
    ("causes", "<Clinicians|Physicians> should be aware of {s} during treatment with {c}."),
    ("causes", "{c} should be avoided in patients at risk of {s}."),
    ("involves", "{h} may <become a target in|serve as a marker of> {d}."),
    ("none", "Further <trials|studies> of {c} in {m} are <needed|warranted|under way>."),
    ("none", "The choice between {c} and {o} should depend on the risk of {s}."),
    ("none", "The results of the {b} trial may lead to a new gold standard in {place}."),
]

# Sentences that state a relation between c (and k) and g; the label is the key, in the words of ChemProt.
RELATIONS = {
    "INHIBITOR": [
        "{c} <potently|selectively|competitively|reversibly> <inhibited|inhibits> {g} in {cell} cells.",
        "The activity of {g} was <reduced|blocked|abolished> by {c} in a concentration-dependent manner.",
        "{c} is a <potent|selective|new|weak> inhibitor of {g} (IC50 {dose} nM).",
        "{c} and {k} <inhibit|block|suppress> {g}.",
        "Inhibition of {g} by {c} was <complete|reversible|competitive> at {dose} µM.",
        "The {g} inhibitor {c} <slowed|prevented|delayed> <growth|migration> of {cell} cells.",
        "{c} blocked the catalytic activity of {g}, but had no effect on {x}.",
        "Treatment with {c}, unlike {o}, <inhibited|suppressed> {g} by {pct}%.",
    ],
    "ANTAGONIST": [
        "{c} is a <selective|potent|competitive> antagonist of {g}.",
        "{c} <blocked|antagonised|antagonises> {g} in {species}.",
        "The {g} antagonist {c} <reversed|prevented|shifted> the response.",
        "Blockade of {g} by {c} was <complete|competitive> (pA2 {dose}).",
        "{c} and {k} are antagonists at {g}.",
        "{c} displaced the ligand of {g} without any intrinsic activity, whereas {x} was not <affected|occupied>.",
    ],
    "AGONIST": [
        "{c} is a <full|partial|selective|potent> agonist of {g}.",
        "{c} <stimulated|activated> {g} <with|showing> high affinity.",
        "The {g} agonist {c} <mimicked|enhanced|produced> the response.",
        "Stimulation of {g} with {c} <raised|increased> the calcium signal by {pct}%.",
        "{c} and {k} act as agonists at {g}, not at {x}.",
        "{c} bound to {g} and <evoked|produced> a maximal response in {species}.",
    ],
    "ACTIVATOR": [
        "{c} <activated|activates> {g} in {cell} cells.",
        "{c} is an activator of {g} (EC50 {dose} nM).",
        "Activation of {g} by {c} was <rapid|transient|sustained>.",
        "The activity of {g} <rose|increased> by {pct}% in the presence of {c}.",
        "{c}, like {k}, <enhanced|increased> the activity of {g}.",
        "{c} <stimulated|activated> {g}, whereas {x} was not changed.",
    ],
    "INDIRECT-UPREGULATOR": [
        "{c} <increased|raised|up-regulated> the expression of {g} in {species}.",
        "Expression of {g} was <induced|doubled|enhanced> by {c}.",
        "{c} and {k} <induced|up-regulated> {g} messenger RNA.",
        "Up-regulation of {g} by {c} was seen within {time}.",
        "In {cell} cells, {c} <raised|increased> the level of {g}, but that of {x} was unchanged.",
    ],
    "INDIRECT-DOWNREGULATOR": [
        "{c} <decreased|lowered|down-regulated> the expression of {g} in {species}.",
        "Expression of {g} was <suppressed|reduced|halved> by {c}.",
        "{c} and {k} <suppressed|down-regulated> {g} messenger RNA.",
        "Down-regulation of {g} by {c} was seen within {time}.",
        "In {cell} cells, {c} <lowered|decreased> the level of {g}, but that of {x} was unchanged.",
    ],
    "SUBSTRATE": [
        "{c} is <metabolised|oxidised|broken down> by {g}.",
        "{g} <catalyses|mediates> the <oxidation|breakdown|conversion> of {c}.",
        "{c} and {k} are substrates of {g}.",
        "The <metabolism|clearance> of {c} by {g} was <rapid|slow|saturable> (Km {dose} µM).",
        "{c} was converted by {g}, not by {x}.",
    ],
    "PRODUCT-OF": [
        "{c} is <produced|formed|synthesised> by {g}.",
        "{g} <catalyses|controls> the <formation|synthesis> of {c}.",
        "{c} and {k} are products of {g}.",
        "The <synthesis|formation> of {c} by {g} <rose|fell> by {pct}%.",
        "{c} was formed by {g} and not by {x}.",
    ],
    "REGULATOR": [
        "{c} <regulates|modifies|influences> {g} in {species}.",
        "{g} is <sensitive to|regulated by> {c}.",
        "The function of {g} depended on {c} and not on {o}.",
        "{c} and {k} <regulate|influence> {g}.",
    ],
}

NEGATIVE = [
    "{c} <did not affect|had no effect on|did not interact with|failed to change> {x}.",
    "No <change|effect|binding> of {c} <was seen at|could be shown for> {x}.",
    "{x} was not <inhibited|activated|affected> by {c}.",
    "Neither {c} nor {o} <changed|altered> the <expression|activity> of {x}.",
]

# Captions, tables and acknowledgements of full-text articles: matter that a reader of running text leaves out.
CAPTIONS = [
    "Time course of {c} in {species}.",
    "Dose-response curves of {c} and {o} for {g}.",
    "Flow of participants through the {b} trial.",
    "Expression of {h} in patients with {d} and controls.",
]
