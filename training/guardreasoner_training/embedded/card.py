"""The model card, written from what was measured: no figure in it is typed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import HAZARD_CODES
from guardreasoner_training.embedded.languages import LANGUAGES
from guardreasoner_training.embedded.sources import source_of

Metrics = Mapping[str, Any]
"""The object of metrics.json, as `pipeline.build` makes it."""

_JUDGES: Final = (("int8", "shipped (int8)"), ("float32", "float32"), ("baseline", "TF-IDF + logistic regression"))
_TITLES: Final = {
    "prompt_harmful": "prompt is harmful",
    "response_refusal": "response is a refusal",
    "response_harmful": "response is harmful",
}


def render(metrics: Metrics) -> str:
    """Write the model card.

    Args:
        metrics: the object of metrics.json.
    """
    parts = [_about(metrics), _figures(metrics), _alarms(metrics), _by_language(metrics)]
    parts += [surroundings_section(metrics.get("surroundings") or [])]
    parts += [_disguises(metrics), _quantised(metrics), _training(metrics)]
    helped = [_helped(metrics["ablation"])] if metrics.get("ablation") else []
    return "\n\n".join([*filter(None, parts), *helped, _by_source(metrics), _sources(metrics), _limits(metrics)]) + "\n"


def _about(metrics: Metrics) -> str:
    model, thresholds = metrics["model"], metrics["thresholds"]["int8"]
    base = model["base"]
    heads = table(
        ("output", "question", "threshold"),
        ((f"`{head}`", _TITLES[head], f"{thresholds[head]:.2f}") for head in HEADS),
    )
    return f"""# {model["name"]} {model["version"]}

A small classifier that judges a prompt, and a prompt with its response. It is what `guardreasoner-sdk` uses where no
language model is at hand: no download, no GPU. It does not reason, and does not replace a guard model that does.

- file: `model.onnx`, {_megabytes(model["bytes"])} MB, SHA-256 `{model["sha256"]}`
- base model: {base["name"]}, {base["licence"]}, weights SHA-256 `{base["sha256"]}`
- built with {", ".join(f"{name} {of}" for name, of in model["built_with"].items())}
- inputs: `input_ids`, `attention_mask`, `token_type_ids` (int64, batch x sequence): 0 for what the user wrote earlier, 1 for
  what the assistant wrote, 2 for a prompt that is judged, 3 for a response that is judged; outputs: `tokens` (float32, batch x
  sequence x {len(HEADS)}), the logit of each judged token for each question in the order below, `logits` (batch x
  {len(HEADS)}), those of the window, `hazards` (batch x {len(HAZARD_CODES)}), which hazard category is nearest where something
  is harmful, and `languages` (batch x {len(LANGUAGES)}), which language it is
- windows: {_windows(metrics["encoding"])}
- languages in which it was measured, with harmful and harmless prompts: {_names(metrics["measured_languages"]) or "none"}

{heads}

The prompt is judged from the prompt alone, whatever the response says, and once more behind the last turns where there are
some. The score of a window is about that of its strongest words, and that of a text is the highest of its windows, of whose
logit {_shifts(metrics)} is taken off for each doubling of their number: over many windows the highest of harmless ones comes
near any threshold. Where that leaves a doubt (a chance of 0.08 or more, below the threshold), the two strongest sentences are
read again, each by itself, less what length takes off: among other text a sentence scores less than alone. A refusal is
read from the beginning of the response. The score is a probability under the training data's proportions, not under yours."""


def _shifts(metrics: Metrics) -> str:
    shift = metrics["length_shift"]
    return f"{shift['prompt_harmful']:.2f} (prompts) or {shift['response_harmful']:.2f} (responses)"


def _figures(metrics: Metrics) -> str:
    rows = []
    judges = _judges(metrics["dev"])
    for name, benchmark in metrics["benchmarks"].items():
        head = benchmark["head"]
        values = [number(benchmark[judge]["f1"]) for judge, _ in judges]
        of = benchmark["int8"]
        values[0] = _with_interval(of)
        rows.append((name, _TITLES[head], of["rows"], of["positives"], *values, of["undetermined"], number(of["auc"])))
    limits = metrics["config"]["limits"]
    benchmarks = table(
        ("benchmark", "task", "rows", "positive", *(f"F1 {title}" for _, title in judges), "undetermined", "AUC"), rows
    )
    return f"""## Figures

F1 is that of the positive class, in percent, at each model's own threshold; an undetermined answer counts as wrong. In
brackets the 95 % interval of draws of as many rows with replacement.
Thresholds were chosen on the development split by one rule for all models: of those whose F1, where positives and
negatives count the same in sum and each row counts as its source is trusted, is within half a point of the best, the
one nearest 0.5, with at most {100 * limits["prompts"]:g} % of plain harmless prompts flagged,
{100 * limits["over_refusal"]:g} % of those that look harmful, and {100 * limits["answers"]:g} % of answers to plain prompts.
The baseline was trained on the same examples.{_again(metrics)}

### Benchmarks

Measured once the model was finished. Nothing was trained, tuned or selected on them.

{benchmarks if rows else "Not measured in this run."}

### Development split

Prompts kept out of training together with all their near-duplicates.

{_heads_table(metrics["dev"])}

### Unseen sources

{_names(metrics["config"]["unseen_sources"])}: held out whole, so none of their rows was learnt. The
sizes of the windows, that a refusal is read from an opening, and from which chance on sentences are read again, were chosen
with them in view, and refusals that go on with advice are written for the training since those of one source were missed. All
of this flatters the model here.

{_heads_table(metrics["unseen"])}"""


def _again(metrics: Metrics) -> str:
    if not metrics.get("measured_again"):
        return ""
    return f""" How text is
read has changed since the training: windows and thresholds were chosen again after that, and all was measured again but what 8
bits cost{"" if metrics.get("disguises_measured_again", True) else ", and disguises"}."""


def _alarms(metrics: Metrics) -> str:
    titles = {"benign": "harmless instructions and chat", "over_refusal": "harmless prompts that look harmful"}
    parts = {"dev": "development split", "unseen": "unseen sources"}
    rows = [
        (parts[part], titles[kind], of["rows"], number(of["false_alarm_rate"]))
        for part, kinds in metrics["false_alarms"].items()
        for kind, of in kinds.items()
    ]
    return f"""## False alarms

Share of harmless prompts that are called harmful, in percent.

{table(("from", "prompts", "rows", "called harmful"), rows) if rows else "No such source in this run."}"""


def _by_language(metrics: Metrics) -> str:
    titles = {"dev": "development split", "unseen": "unseen sources"}
    rows = [
        (
            language,
            titles[part],
            of["rows"],
            of["positives"],
            *(number(of[key]) for key in ("f1", "recall", "false_alarm_rate")),
        )
        for part, languages in metrics["by_language"].items()
        for language, heads in languages.items()
        if (of := heads.get(HEADS[0])) is not None
    ]
    titles_of_rows = ("language", "from", "rows", "harmful", "F1", "recall", "false alarms")
    return f"""## Languages

Prompts, by the language that their source states, where there are 20 or more; in percent.

{table(titles_of_rows, rows) if rows else "No language with 20 rows."}"""


def _disguises(metrics: Metrics) -> str:
    plain = metrics["disguises"]["none"]
    rows = []
    for name, heads in metrics["disguises"].items():
        losses = [
            None if heads[head] is None or plain[head] is None or name == "none" else plain[head] - heads[head]
            for head in HEADS
        ]
        worst = max((loss for loss in losses if loss is not None), default=None)
        rows.append((name, *(number(heads[head]) for head in HEADS), number(worst)))
    return f"""## Disguises

What is judged, disguised in {metrics["config"]["disguised_examples"]} examples of the development split: F1 with classes
balanced, in percent, and the largest loss of the three. Nothing was trained on such copies; the words are restored before
they are read, by rules that were written with these disguises in view.

{table(("disguise", *(_TITLES[head] for head in HEADS), "largest loss"), rows)}"""


def _quantised(metrics: Metrics) -> str:
    cost, latency, model = metrics["quantisation"], metrics["latency_ms"], metrics["model"]
    balanced, same = cost["f1"], cost["float32_at_shipped_thresholds"]
    loss = []
    for head in HEADS:
        own, shared, small = balanced["float32"][head], same[head], balanced["int8"][head]
        change = None if small is None or shared is None else round(small - shared, 2)
        ranks = (number(cost["auc"][judge].get(head)) for judge in ("float32", "int8"))
        loss.append((_TITLES[head], number(own), number(shared), number(small), number(change), *ranks))
    times = [(length, number(latency["float32"][length]), number(latency["int8"][length])) for length in latency["int8"]]
    titles = (
        "head",
        "float32, own threshold",
        "float32, shipped threshold",
        "int8, shipped threshold",
        "change",
        "AUC float32",
        "AUC int8",
    )
    return f"""## What 8 bits cost

Matrices have one scale per output channel and 7 of their 8 bits, word embeddings one scale per word; the heads stay in
32 bits. So do the two loudest units of each layer, and the six loudest channels of each input are divided, and their weights
multiplied: 8 bits would leave the others no room. {_megabytes(model["float32_bytes"])} MB became
{_megabytes(model["bytes"])} MB. F1 on the development split with classes balanced, and AUC, in percent; the change is that at
the same threshold:

{table(titles, loss)}

Median milliseconds for one window, one thread, on the machine that built the model:

{table(("tokens", "float32", "int8"), times)}"""


def _training(metrics: Metrics) -> str:
    config, data = metrics["config"], metrics["data"]
    labels = "; ".join(f"{_TITLES[head]}: {of['positive']} yes, {of['negative']} no" for head, of in data["labels"].items())
    time = f" Training took {metrics['minutes']} minutes on {config['threads']} cores." if metrics["minutes"] else ""
    written = data["written"]
    weak = _names(source for source, of in data["sources"].items() if source_of(source).weak and of["prompts"] + of["pairs"])
    trials = [
        (_windows(trial), *(number(trial[part][head]) for part in ("dev", "unseen") for head in HEADS), number(trial["mean"]))
        for trial in metrics["encoding_trials"]
    ]
    weights = _names(f"{weight:g}" for weight in config["head_weights"])
    short, long = config["train_encodings"]
    rates = f"{config['learning_rate']:g} (encoder), {config['head_learning_rate']:g} (heads)"
    return f"""## Training

{data["rows"]} labelled rows in {data["groups"]} groups of near-duplicate prompts. Prompts are near-duplicates if they
agree when normalised, in their first 60 characters, or in 8 words in a row; phrases that more than 40 prompts share are
templates and join nothing, so two prompts of one template may stand on both sides. A share of
{config["dev_share"]:g} of the groups ({config["response_dev_share"]:g} of those with labels of harmful responses) is
the development split: {data["dev_rows"]} rows, of which {data["dev_examples"]} examples are measured.
{data["dropped_rows"]} rows of unseen sources were dropped because their prompt is near one that was trained on.

After the caps per source {data["train_examples"]} examples were trained on ({labels}). A prompt gives one example
however many answers it has. Where a source is silent, two labels are derived for training, never for measuring: a
refusal is not harmful, nor is compliance with a harmless prompt of an over-refusal set.{time}

Among them {written["prompts"]} prompts and {written["pairs"]} answers were made for this project: everyday requests,
harmless ones that look harmful, requests of the sources inside wrappings that stand around harmful and harmless ones alike,
and further answers (refusals, harm behind a refusal or behind kind words, harmless answers behind doubts). Labels of
{weak or "no source"} are guesses from what the set is and how an answer begins; nothing is measured on made or guessed rows.
{data["hazards"]} examples name a hazard category.

- {config["epochs"]} epoch(s), batches of {config["batch_size"]}, AdamW, peak rate {rates}, warm-up over
  {100 * config["warmup_share"]:.0f} % of the steps, then linear to zero; weight decay {config["weight_decay"]:g},
  gradient norm at most {config["clip_norm"]:g}, label smoothing {config["label_smoothing"]:g}, seed {config["seed"]}
- embeddings frozen, no dropout in the encoder, {100 * config["head_dropout"]:.0f} % on a token's
  features; heads of {config["head_width"]} hidden units, each score averaged over five tokens; loss weights {weights}
- the weights kept are a running mean over about the last {100 * config["average_share"]:.0f} % of the steps; loss weight of the
  hazard categories {config["hazard_weight"]:g}
- windows in training: {_windows(short)}; {100 * config["long_share"]:.0f} % of what does not fit into one is learnt with
  {long["window_tokens"]} tokens. Of a long harmful text up to {config["most_windows"]} windows are learnt together, and the
  strongest counts; of a harmless one, one. A pair is learnt without its prompt {100 * config["prompt_dropout"]:.0f} % of the
  time
- {"products in bfloat16" if config["bfloat16"] else "all in 32 bits"}; loss weight of the languages, which teach the encoder
  nothing, {config["language_weight"]:g}

Windows of the shipped model, chosen by the mean F1 on the development split and the unseen sources, classes balanced:

{table(("windows", *(_TITLES[head] for head in HEADS), *(f"unseen, {_TITLES[head]}" for head in HEADS), "mean"), trials)}"""


def _helped(ablation: Metrics) -> str:
    rows = []
    for name, of in ablation["variants"].items():
        dev = [value for value in of["dev"].values() if value is not None]
        areas = [number(of["unseen AUC"].get(head)) for head in HEADS]
        rows.append((name, number(sum(dev) / len(dev)), *areas, number(of["false alarms, unseen"])))
    areas = [f"unseen AUC, {_TITLES[head]}" for head in HEADS]
    return f"""## What helped

Small trainings of {ablation["examples"]} examples each, with one part left out at a time: mean F1 of the development split with
classes balanced, AUC on the unseen sources, and false alarms on their everyday chat, in percent; means over
{len(ablation["seeds"])} seeds. What is made for the project takes the place of rows here, which costs figures on the
development split. A point more or less is noise there, and several are on the unseen sources: read those columns as hints.

{table(("training", "development", *areas, "false alarms, unseen"), rows)}"""


def _by_source(metrics: Metrics) -> str:
    held_out = set(metrics["config"]["unseen_sources"])
    rows = [
        (
            f"{source} (unseen)" if source in held_out else source,
            _TITLES[head],
            of["rows"],
            of["positives"],
            _with_interval(of),
            *(number(of[key]) for key in ("recall", "false_alarm_rate")),
        )
        for part in metrics["by_source"].values()
        for source, heads in part.items()
        for head, of in heads.items()
    ]
    return f"""## Figures by source

Sources with 20 rows or more; the shipped model at its thresholds, in percent.

{table(("source", "task", "rows", "positive", "F1", "recall", "false alarms"), rows)}"""


def _sources(metrics: Metrics) -> str:
    held_out = set(metrics["config"]["unseen_sources"])
    rows = [
        (
            source,
            of["licence"],
            of["rows"],
            "held out" if source in held_out else of["prompts"],
            "held out" if source in held_out else of["pairs"],
            f"{of['weight']:g}",
        )
        for source, of in metrics["data"]["sources"].items()
    ]
    return f"""## Sources

Licences as recorded by those who gathered the data. Share-alike sources and providers' terms on model outputs bind
those who pass the data on; none of it is in this package.

{table(("source", "licence", "rows", "prompts used", "pairs used", "weight"), rows)}"""


def _limits(metrics: Metrics) -> str:
    names = metrics["data"]["sources"]
    moderation = [source for source in names if source_of(source).moderation]
    return f"""## Known limits

- Subtle harmful answers are missed oftener than blunt ones, and harmless answers to harmful requests are called harmful
  oftener than others: there is little public text of modern models answering harmfully. This is the weakest task.
- Some labels follow from how a set was made, or come from other models; part of them is wrong.
  {_names(moderation) or "No source"} label forum or encyclopaedia text, not requests.
- Languages other than those measured above are judged by what they share with these; the verdict says so where it notices.
- There is little real everyday chat in the training data; expect more false alarms there than on instruction data.
- Of disguises those in the table are undone, and no others.
- A score near the threshold says little. Use a reasoning guard for what it leaves open."""


def _heads_table(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    rows = []
    for head in HEADS:
        of = figures["int8"].get(head)
        if of is not None:
            values = [number(figures[judge][head]["f1"]) for judge, _ in _judges(figures)]
            values[0] = _with_interval(of)
            extra = [number(of[key]) for key in ("precision", "recall", "auc")]
            rows.append((_TITLES[head], of["rows"], of["positives"], *values, *extra))
    titles = (*(f"F1 {title}" for _, title in _judges(figures)), "precision", "recall", "AUC")
    return table(("task", "rows", "positive", *titles), rows) if rows else "No rows."


def _judges(figures: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(judge, title) for judge, title in _JUDGES if judge in figures]


def _windows(encoding: Mapping[str, Any]) -> str:
    return (
        f"{encoding['window_tokens']} tokens, of which at most {encoding['context_tokens']} are what went before, "
        f"{encoding['overlap_tokens']} shared by neighbours, {encoding['opening_tokens']} for the opening of a response"
    )


def _with_interval(of: Mapping[str, Any]) -> str:
    if of["f1"] is None:
        return "-"
    return f"{number(of['f1'])} ({number(of['f1_low'])} to {number(of['f1_high'])})"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


_TASKS: Final = {"prompt_harmfulness": "prompt", "response_harmfulness": "response"}
_CLEAR_CUT: Final = "clear_cut"


def table(titles: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | int | None) -> str:
    """A figure with one digit behind the point, a small one with two.

    Args:
        value: it; None is a dash.
    """
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def surroundings_section(figures: Sequence[Mapping[str, Any]]) -> str:
    """The section on texts in other surroundings and in other languages; empty where they were not measured.

    Args:
        figures: those of `surroundings.surroundings`.
    """
    if not figures:
        return ""
    sets = [
        (of["set"], of["variant"], _TASKS[of["task"]], _share(of["found"]), _share(of["flagged"]), _share(of["flagged_alone"]))
        for of in figures
        if of["set"] != _CLEAR_CUT
    ]
    clear = [
        (of["variant"], _TASKS[of["task"]], _share(of["found"]), _share(of["flagged"]))
        for of in figures
        if of["set"] == _CLEAR_CUT
    ]
    return f"""## In other surroundings

What `guardreasoner evaluate --robustness` measures, on English requests and answers of the development split: of the harmful
texts that are found alone, how many are found there; and how many of their harmless twins are flagged there, and alone. In
percent, with counts. The wordings are others than those of the training.

{table(("set", "surroundings", "judged", "found", "harmless flagged", "flagged alone"), sets)}

## Clear-cut texts by language

The set `clear_cut` of the same command: short requests and answers written for measuring, other ones than those of the
training. Harmful prompts that are found, and harmless ones that are flagged: everyday messages, look-alikes, and answers.

{table(("language", "judged", "harmful found", "harmless flagged"), clear)}"""


def _share(of: Mapping[str, Any] | None) -> str:
    if of is None or not of["rows"]:
        return "-"
    return f"{100 * of['count'] / of['rows']:.0f} ({of['count']} of {of['rows']})"
