"""Hard negatives of each sample's own, from a column of the data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import OwnNegatives
from tauten.cli import main
from tauten.models import BagTokenizer, BagTower, TextEncoder
from tauten.models.text_encoder import stacked
from tauten.training import DataConfig, evaluate, train
from tauten.training.stores.own_negatives import OwnTexts, negatives_of
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.module import ContrastiveModule

COLOURS, SHAPES = ("red", "green", "blue", "grey"), ("disc", "ring", "bar", "cross", "dot")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write questions whose answers have a wrong colour or shape beside them."""
    rng, rows = np.random.default_rng(0), []
    for i in range(240):
        colour, shape, size = rng.integers(4), rng.integers(5), rng.integers(9)
        words = [COLOURS[colour], SHAPES[shape], f"size{size}"]
        wrong = [
            f"{COLOURS[(colour + 1) % 4]} {SHAPES[shape]} size{size}",
            f"{COLOURS[colour]} {SHAPES[(shape + 1) % 5]} size{size}",
        ]
        rows.append(
            {
                "id": f"question {i} {words[0]} {words[1]} {words[2]}",
                "caption": " ".join(words),
                "wrong": [None, wrong[:1], wrong, [*wrong, " ", " ".join(words)]][i % 4],
                "kind": SHAPES[shape],
            }
        )
    path = tmp_path_factory.mktemp("negatives") / "pairs.json"
    path.write_text(json.dumps(rows))
    return path


def configured(make_config, output, table, **more):
    data = {"texts": True, "image": "id", "label": "kind", "negatives": "wrong", "limit": None}
    fields = {f"data__{name}": value for name, value in data.items()}
    return make_config(output, **fields | {"data__source": str(table)} | more)


def test_cells_are_read_and_counted(caplog):
    cells = ["one", ["two", "two", " ", "right"], None, [], ["three", None]]
    captions = [["a"], ["right", "b"], ["c"], ["d"], ["e"]]
    found = negatives_of(cells, captions, "wrong", "mine.json")
    assert found == [["one"], ["two"], [], [], ["three"]]
    assert "mine.json: left out of the negatives: 1 text of the column 'wrong' that" in caplog.text
    with pytest.raises(ValueError, match="no sample of mine.json has a text in the column"):
        negatives_of([None, " "], [["a"], ["b"]], "wrong", "mine.json")
    with pytest.raises(ValueError, match="holds a value of type int in sample 1"):
        negatives_of(["x", [3]], [["a"], ["b"]], "wrong", "mine.json")


def test_rows_of_one_picture_bring_the_negatives_of_all(tmp_path):
    rows = [{"q": f"q {i // 2}", "caption": f"a {i}", "wrong": [f"w {i}"]} for i in range(80)]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    config = DataConfig(
        source=str(tmp_path / "pairs.json"), texts=True, image="q", negatives="wrong"
    )
    data = load_splits(config, ("train",))["train"]
    for text, own in zip(data.images.texts, data.negatives, strict=True):
        number = int(text.split()[1])
        assert own == [f"w {2 * number}", f"w {2 * number + 1}"]
    with pytest.raises(ValueError, match=r"no column data.negatives=bad in .*; columns: "):
        load_splits(replace(config, negatives="bad"), ("train",))


def test_texts_of_a_batch():
    tokenizer = BagTokenizer(["a", "b", "c", "d"])
    texts = [["a", "b", "c"], [], ["d"]]
    found = OwnTexts(texts, tokenizer).batch(torch.tensor([2, 1, 0]))
    assert found["negative_rows"].tolist() == [[0, -1, -1], [-1, -1, -1], [1, 2, 3]]
    assert found["negatives"]["input_ids"].flatten().tolist() == [5, 2, 3, 4]
    assert OwnTexts(texts, tokenizer).batch(torch.tensor([1])) == {}
    torch.manual_seed(0)
    rows = [OwnTexts(texts, tokenizer, 2).batch(torch.tensor([0])) for _ in range(20)]
    assert {len(row["negatives"]["input_ids"]) for row in rows} == {2}
    assert {i for row in rows for i in row["negatives"]["input_ids"].flatten().tolist()} == {
        2,
        3,
        4,
    }


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_loss_has_them_in_the_denominators_of_their_anchors(chunk):
    torch.manual_seed(0)
    encoder = TextEncoder(BagTower(12, 8), 6).double()
    ids = torch.randint(2, 12, (3, 4))
    texts, others = ({"input_ids": i, "attention_mask": i * 0 + 1} for i in (ids, ids.flip(1) + 0))
    first, wrong = stacked({n: v.roll(1, 0) for n, v in texts.items()}), ids[:, :2] % 9 + 2
    rows = torch.tensor([[0, 1], [-1, -1], [2, -1]])
    module = ContrastiveModule(encoder, tt.InfoNCE(0.2), chunk=chunk).train()
    negatives = {"input_ids": wrong, "attention_mask": wrong * 0 + 1}
    index = torch.arange(3)
    call = (first, others, index, (index, index))
    loss = module(*call, negatives=negatives, negative_rows=rows)["loss"]
    loss.backward()
    got = encoder.text_tower.embedding.grad.clone()

    encoder.zero_grad()
    x, y = (F.normalize(side) for side in encoder(first, others))
    n = F.normalize(encoder.encode_text(negatives))
    logits = x @ y.T / 0.2
    own = [[x[0] @ n[0], x[0] @ n[1]], [], [x[2] @ n[2]]]
    of_x = [
        torch.cat([logits[i], torch.stack(o) / 0.2 if o else logits[i, :0]]).logsumexp(0)
        for i, o in enumerate(own)
    ]
    both = torch.stack(of_x) + logits.T.logsumexp(1) - 2 * logits.diagonal()
    wanted = both.mean() / 2
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(got, encoder.text_tower.embedding.grad)
    shown = module.forces(None)
    assert shown["force/repulsion/all"] > 0


def test_batches_are_joined():
    one = OwnNegatives(torch.ones(2, 1, 3), missing_x=torch.tensor([[True], [False]]))
    two = OwnNegatives(torch.full((1, 2, 3), 2.0))
    found = OwnNegatives.joined([one, None, two], [2, 1, 1])
    assert found.missing_x.tolist() == [[True, True], [False, True], [True, True], [False, False]]
    assert found.for_x[3].eq(2).all()
    assert OwnNegatives.joined([None, None], [2, 1]) is None


@pytest.fixture(scope="module")
def run(make_config, table, tmp_path_factory):
    """Train for as long as it takes to tell the colours."""
    config = configured(
        make_config, tmp_path_factory.mktemp("run") / "run", table, optim__epochs=12
    )
    config.optim.lr, config.evaluation.metric = 0.02, "compositional/accuracy"
    return train(config)


def test_a_training_learns_to_prefer_the_right_caption(run, table, capsys):
    assert run.test["compositional/accuracy"] > 0.9
    assert run.test["compositional/n"] < run.test["x2y/n"]
    assert "compositional/accuracy/low" in run.test
    found = evaluate(run.output, bootstrap=0)
    assert found["compositional/accuracy"] == run.test["compositional/accuracy"]
    assert "compositional/n" not in evaluate(run.output, table, bootstrap=0)
    words = ["--data", str(table), "--negatives", "wrong", "--bootstrap", "0", "--all"]
    assert main(["evaluate", str(run.output), *words]) == 0
    assert "compositional/accuracy" in capsys.readouterr().out


def test_metrics_are_those_of_compositional(run, table, make_config):
    model = tt.load(run.output)
    config = configured(make_config, run.output, table)
    data = load_splits(config.data, ("test",))["test"]
    wins = []
    for text, captions, own in zip(data.images.texts, data.captions, data.negatives, strict=True):
        if own:
            x, y, n = (model.encode_text(t) for t in ([text], captions[:1], own))
            wins.append(bool((x @ y.T > x @ n.T + 1e-6).all()))
    assert len(wins) == run.test["compositional/n"]
    assert sum(wins) / len(wins) == pytest.approx(run.test["compositional/accuracy"])


def test_it_goes_on_bit_for_bit(make_config, table, tmp_path, check_resumed):
    more = {"data__negatives_drawn": 1}
    configs = [configured(make_config, tmp_path / n, table, **more) for n in ("whole", "broken")]
    check_resumed(*configs, ContrastiveModule, 7, 10)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "sogclr"}, "data.negatives=wrong: family=sogclr takes no own negatives: hard"),
        ({"family": "nuclr"}, "family=nuclr takes no own negatives"),
        ({"loss__mixtures": 2, "loss__queue": 64}, "data.negatives and loss.mixtures"),
        ({"data__negatives_drawn": -1}, "data.negatives_drawn must be"),
    ],
)
def test_what_takes_none_is_refused(make_config, tmp_path, table, options, said):
    with pytest.raises(ValueError, match=said):
        train(configured(make_config, tmp_path / "run", table, **options))
