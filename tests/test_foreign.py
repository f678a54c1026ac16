"""Maps of other libraries as black boxes: the tables are well formed, answers merge and resume, and a planted mistake alarms."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import ndtr, ndtri

from refflow.core import sets
from refflow.oracle.asking.arrays import UNITS
from refflow.oracle.boxes.black_box_laws import LAWS
from refflow.oracle.boxes.black_box_points import ALLOWED
from validation import black_box as command
from validation.defects.environments import LIBRARIES
from validation.foreign import asking, maps_of_scipy, table
from validation.foreign.asked import answers
from validation.foreign.entry import BOTH, normal, positive
from validation.foreign.judged import judged
from validation.foreign.losses import LOSSES, loss_of
from validation.foreign.true_alarms import TRUE_ALARMS, Reason
from validation.foreign.truths import EQUATIONS, Unknown, truth
from validation.foreign.witness import witness

FOLDER = Path(asking.__file__).parent
MAPS = {name: (name, dtypes, make) for name, dtypes, make in maps_of_scipy.maps()}
KEY = ("scipy", "norm.cdf", "float64", "finite")
ANSWER = {"box": "norm.cdf", "dtype": "float64", "seed": 0, "precision": "float64", "draws": 42, "seconds": 1.5,
          "verdicts": [["finite", "FAIL", "the image at 0.0 is nan"], ["monotone", "pass", ""], ["mass is one", "skip", "no"]]}


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    """Changes of the table of true alarms end with a test."""
    monkeypatch.setattr(command, "TRUE_ALARMS", {})
    monkeypatch.setattr(command, "LOSSES", ())
    return command.TRUE_ALARMS


def test_every_library_has_an_environment_and_a_file():
    assert set(asking.VERSIONS) <= set(LIBRARIES)
    assert {path.stem.removeprefix("maps_of_") for path in FOLDER.glob("maps_of_*.py")} == set(asking.VERSIONS)


def test_the_true_alarms_are_of_these_libraries_and_of_laws():
    for (library, name, dtype, law), reason in TRUE_ALARMS.items():
        assert library in asking.VERSIONS and dtype in UNITS and law in LAWS and name, (library, name, dtype, law)
        assert len(reason.text) > 20 and reason.seed >= 0, name


def test_true_alarms_of_scipy_are_of_its_maps():
    assert {(name, dtype) for library, name, dtype, _ in TRUE_ALARMS if library == "scipy"} \
        <= {(name, dtype) for name, dtypes, _ in MAPS.values() for dtype in dtypes}


def test_names_are_not_repeated():
    names = [name for name, _, _ in maps_of_scipy.maps()]
    assert len(names) == len(set(names)) >= 60


def test_a_right_map_is_asked_and_is_silent():
    begun, answer = answers([MAPS["logistic.cdf"]], 0, [])
    assert begun == {"begun": ["logistic.cdf", "float64"]}
    asked = {law: status for law, status, _ in answer["verdicts"]}
    assert "FAIL" not in asked.values() and set(asked) == set(LAWS)
    assert asked["log-det is the determinant of differences"] == asked["all laws at moved parameters"] == "pass"


@pytest.mark.parametrize("off, alarms", ((0.0, False), (1e-6, True)))
def test_a_log_det_off_by_a_millionth_alarms(off, alarms):
    def affine(shift, scale):
        return (lambda z: (z * scale + shift, np.full(len(z), np.log(scale) + off)),
                lambda x: ((x - shift) / scale, np.full(len(x), -np.log(scale) - off)))

    planted = maps_of_scipy.one("planted", affine, normal(), positive())
    total = command.Total()
    total.add(list(answers([planted], 0, []))[-1], "foreign", "scipy")
    found = {alarm["law"] for alarm in total.summary()["alarms"]}
    assert ("log-det is the determinant of differences" in found) is alarms and bool(found) is alarms


def test_in_float32_the_copy_in_float64_is_asked_with_the_same_parameters():
    make = maps_of_scipy.one("affine", lambda a: (lambda z: z + a, lambda x: x - a), normal(3), dtypes=BOTH, event=(3,))[2]
    box = make(1, "float32")
    (narrow,), (wide,) = box.parameters, box.wider.parameters
    assert narrow.dtype == "float32" and wide.dtype == "float64" and (narrow == wide).all()


def test_a_map_that_cannot_be_made_is_told():
    def make(seed, dtype):
        raise RuntimeError("no such map")

    answer = list(answers([("broken", ("float64",), make)], 0, []))[-1]
    total = command.Total()
    total.add(answer, "foreign", "scipy")
    assert total.summary()["not made"] == {"broken: raised RuntimeError: no such map": 1} and total.boxes == 0


# -- the truth --------------------------------------------------------------------------------------------------------

LINE, HALF_LINE, UNIT = [-np.inf, np.inf], [0.0, np.inf], [0.0, 1.0]
ZERO = ("torch", "Exponential.cdf", "inverse_log_det", 0.5, (2.0,), HALF_LINE, UNIT)
KNOWN = {                       # (what is asked, the answer by another formula than that of `truths`)
    "a normal tail": (("scipy", "norm.cdf", "forward", -38.0, (0.0, 1.0), LINE, UNIT),
                      lambda: mp.npdf(38) * mp.quad(lambda s: mp.exp(-38 * s - s * s / 2), mp.linspace(0, 4, 41))),
    "its quantile": (("scipy", "norm.ppf", "forward", 0.975, (0.0, 1.0), UNIT, LINE),
                     lambda: mp.sqrt(2) * mp.erfinv(2 * mpf(0.975) - 1)),
    "a log-density far out": (("scipy", "cauchy.cdf", "log_det", 1e200, (0.0, 1.0), LINE, UNIT),
                              lambda: -mp.log(mp.pi * (1 + mpf(1e200) ** 2))),
    "of the inverse": (("torch", "Weibull.cdf", "inverse_log_det", 0.25, (2.0, 3.0), HALF_LINE, UNIT),
                       lambda: mp.log(mp.diff(lambda q: 2 * mp.cbrt(-mp.log(1 - q)), mpf(0.25)))),
    "of a quantile's inverse": (("torch", "Normal.icdf", "inverse_log_det", 1.5, (0.0, 1.0), UNIT, LINE),
                              lambda: mp.log(mp.npdf(1.5))),
    "a slope": (("torch", "SoftplusTransform", "slope", 2.0, (), LINE, HALF_LINE), lambda: -mp.log(1 + mp.exp(-2))),
    "a log-det of a vector": (("numpyro", "OrderedTransform", "log_det", [0.5, 0.25, -0.75], (), LINE, LINE), lambda: mpf(-0.5)),
    "a conjugation": (("bijx", "CubicConjugation", "forward", 1.0, (0.0, 8.0, 1.0, 1.0), LINE, LINE), lambda: mpf(2)),
    "a spline of equal bins": (("nflows", "splines.linear_spline", "forward", [0.25], (0.0,) * 5, UNIT, UNIT), lambda: mpf(0.25)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_truths_are_right(name):
    asked, other = KNOWN[name]
    with mp.workdps(40):
        (found,), _ = truth(*asked)
        assert abs(found - other()) <= abs(found) * mpf(10) ** -28


def test_two_zeros_are_no_truth():
    """1 - 2 * 1/2 may have cancelled: whether digits were left is not known."""
    with pytest.raises(Unknown):
        truth(*ZERO)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.library} {loss.example.name} {loss.example.quantity}")
def test_a_loss_is_one_by_its_true_number(loss):
    """The number that the row gives is further from the truth, which is computed, than 16 units; and the right number is not."""
    found = loss.example.judgement(loss.library)
    assert found.C > ALLOWED and loss.explains(loss.example.name, loss.example.quantity)
    if np.size(loss.example.given) == 1:
        assert replace(loss.example, given=float(found.true)).judgement(loss.library).C < 1


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.library} {loss.example.name} {loss.example.quantity}")
@pytest.mark.filterwarnings("ignore:Error in function boost")     # where the search stops, it says so
def test_the_library_gives_the_number_of_a_loss(loss):
    maps = pytest.importorskip(f"validation.foreign.maps_of_{loss.library}").maps()
    one = loss.example
    make = replace(next(make for name, _, make in maps if name == one.name),
                   draws=tuple(lambda rng, value=value: np.asarray(value) for value in one.parameters))
    kind, law = ("images", "inverse log-det is minus log-det" if one.quantity.endswith("log_det") else "inverse of forward") \
        if one.quantity.startswith("inverse") else ("latents", "finite")
    asked = witness(make, make(0, one.dtype), law, {"latents": [], "images": []} | {kind: [one.event]}, 0)
    given = next(value for quantity, _, value in asked["numbers"] if quantity == one.quantity)
    assert replace(one, given=given).judgement(loss.library).C > ALLOWED


@pytest.mark.parametrize("library, names", (("scipy", None), ("torch", ("Pareto.cdf", "Gumbel.icdf", "LogNormal.cdf"))))
def test_equations_agree_with_libraries_at_moderate_events(library, names):
    """To 2^10 units: an equation of another map, or of other parameters, would not."""
    maps = pytest.importorskip(f"validation.foreign.maps_of_{library}").maps()
    for name, _, make in maps:
        if (library, name) in EQUATIONS and (names is None or name in names):
            box = make(0, "float64")
            z = next(z for z in box.held(np.array([0.6, 3.1])) if (box.domain or sets.real).members(z, 0))
            asked = witness(make, box, "finite", {"latents": [z], "images": []}, 0)
            worst = judged(library, name, "float64", asked)
            assert worst is None or worst.C < 2**10, (name, str(worst))


def test_losses_explain_what_they_say():
    assert loss_of("torch", "Normal.cdf", "forward").text != loss_of("torch", "Normal.cdf", "inverse").text
    assert loss_of("scipy", "laplace.cdf", "forward") is None


def witnessed(given):
    return {"parameters": [0.0, 1.0], "domain": LINE, "codomain": UNIT, "numbers": [["forward", -7.0, given]]}


@pytest.mark.parametrize("given, true_alarm, alarms", ((1.2798095916366492e-12, 1, 0), (1.279812543885835e-12, 0, 1)))
def test_an_alarm_is_the_library_s_if_its_number_is_wrong(given, true_alarm, alarms):
    """The same failure of a law, shown by a number that has lost digits, and by a right one."""
    total = command.Total()
    total.add(ANSWER | {"box": "Normal.cdf", "verdicts": [["finite", "FAIL", "text", witnessed(given)]]}, "foreign", "torch")
    found = total.summary()
    assert (len(found["true alarms"]), len(found["alarms"])) == (true_alarm, alarms)
    assert "is true" in (found["true alarms"] + found["alarms"])[0]["judgement"]


def test_a_wrong_number_without_a_reason_is_an_alarm():
    lines = []
    total = command.Total(lines.append)
    shown = witnessed(0.5) | {"codomain": UNIT}
    total.add(ANSWER | {"verdicts": [["finite", "FAIL", "text", shown]]}, "foreign", "scipy")
    assert total.summary()["alarms"] and "a loss without a reason" in lines[0]


def test_the_witness_of_a_failure_has_its_place():
    """Of a distribution function that is 0 below -5, the place is the failing latent, and its number is judged."""
    def cut(shift, scale):
        return lambda z: np.where(z < -5, 0, ndtr((z - shift) / scale)), lambda x: shift + scale * ndtri(x)

    planted = maps_of_scipy.one("norm.cdf", cut, lambda rng: np.zeros(()), lambda rng: np.ones(()), codomain=(0, 1))
    answer = list(answers([planted], 0, []))[-1]
    found = {law: judged("scipy", "norm.cdf", "float64", *shown) for law, status, _, *shown in answer["verdicts"] if status == "FAIL"}
    assert found and all(one.C > ALLOWED for one in found.values())


# -- the summary ------------------------------------------------------------------------------------------------------

def test_answers_of_all_kinds_merge():
    lines = []
    total = command.Total(lines.append)
    total.add(ANSWER, "own")
    total.add(ANSWER, "foreign", "scipy")
    found = total.summary()
    assert found["boxes"] == 2 and found["seconds"] == 3 and found["draws"] == {"float64": 84}
    assert found["verdicts"] == {"finite": {"FAIL": 2}, "monotone": {"pass": 2}, "mass is one": {"skip": 2}}
    assert [alarm.get("library") for alarm in found["alarms"]] == [None, "scipy"] and len(lines) == 2
    assert "2 boxes, 4 verdicts, 2 alarms" in command.table(found)


def test_a_true_alarm_stands_apart_with_its_reason(listed):
    listed[KEY] = Reason("the library is wrong")
    total = command.Total()
    total.add(ANSWER, "foreign", "scipy")
    found = total.summary()
    assert found["alarms"] == found["silent"] == [] and found["true alarms"][0]["reason"] == "the library is wrong"
    assert "scipy: the library is wrong\n    1 true alarms: norm.cdf float64" in command.table(found)


@pytest.mark.parametrize("seed, silent", ((0, True), (1, False)))
def test_a_listed_alarm_that_is_silent_at_its_seed_is_told(listed, seed, silent):
    listed[KEY] = Reason("the library is wrong", seed)
    total = command.Total()
    total.add(ANSWER | {"verdicts": [["finite", "pass", ""]]}, "foreign", "scipy")
    assert total.silent() == ([KEY] if silent else [])


def test_a_listed_map_that_a_whole_library_lacks_is_told(listed, monkeypatch):
    listed["scipy", "no such map", "float64", "finite"] = Reason("the library is wrong")
    monkeypatch.setattr(command, "foreign_answers", lambda library, seed, only, again: iter([ANSWER]))
    assert command.trials(["foreign"], 1, 900, libraries=["scipy"])["silent"]
    assert not command.trials(["foreign"], 1, 900, only="norm.cdf", libraries=["scipy"])["silent"]


def test_the_command_exits_with_1_for_an_alarm_alone(listed, monkeypatch, capsys):
    monkeypatch.setattr(command, "foreign_answers", lambda library, seed, only, again: iter([ANSWER]))
    assert command.main(["--library", "scipy", "--json"]) == 1
    listed[KEY] = Reason("the library is wrong")
    assert command.main(["--library", "scipy"]) == 0
    assert "1 reasons for 1 true ones" in capsys.readouterr().out


# -- processes --------------------------------------------------------------------------------------------------------

def test_a_process_answers_what_is_left():
    answer, = asking.fresh("scipy", 0, (sys.executable, None), [], 60, "expon.cdf")
    assert list(asking.fresh("scipy", 0, (sys.executable, None), [["expon.cdf", "float64"]], 60, "expon.cdf")) == []
    assert answer["box"] == "expon.cdf" and len(answer["verdicts"]) == len(LAWS)


def test_a_process_that_fails_says_why():
    answer, = asking.fresh("nothing", 0, (sys.executable, None), [], 60)
    assert "maps_of_nothing" in answer["unmade"]


def test_a_map_that_takes_too_long_is_left_and_the_others_are_asked(monkeypatch):
    class Process:
        lines = [{"begun": ["slow", "float64"]}, None, {"begun": ["quick", "float64"]}, {"box": "quick"}, None]
        reason = ""

        def __init__(self, where, module, *arguments, given):
            self.reason = "" if given else "no answer within 1 seconds"

        def __enter__(self):
            return self

        def __exit__(self, *of_exception):
            pass

        def line(self, limit):
            return self.lines.pop(0)

    monkeypatch.setattr(asking, "Process", Process)
    slow, quick = asking.fresh("scipy", 0, None, [], 1)
    assert slow["unmade"] == "no answer within 1 seconds" and quick == {"box": "quick"}


def test_kept_answers_are_not_asked_again(tmp_path, monkeypatch):
    asked = []

    def fresh(library, seed, where, done, limit, only):
        asked.append(done)
        yield from [{"box": "slow", "unmade": "no answer"}] if done else [ANSWER]

    monkeypatch.setattr(asking, "made", lambda library, version, cache: (sys.executable, None))
    monkeypatch.setattr(asking, "fresh", fresh)
    for _ in range(3):
        assert next(asking.answers("scipy", 0, cache=tmp_path)) == ANSWER
        list(asking.answers("scipy", 0, cache=tmp_path))
    assert asked[0] == [] and all(done == [["norm.cdf", "float64"]] for done in asked[1:])
    list(asking.answers("scipy", 0, again=True, cache=tmp_path))
    assert asked[-1] == []


# -- the table --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("listed_there, counts", ((True, "| 0 | 2 |"), (False, "| 2 | 0 |")))
def test_the_table_is_made_of_what_is_kept(listed, listed_there, counts, tmp_path, monkeypatch):
    """Answers of these laws, of two seeds; an answer of other laws is left out."""
    if listed_there:
        listed[KEY] = Reason("the library is wrong")
    monkeypatch.setattr(asking, "digest", lambda library: "these")
    (tmp_path / "foreign").mkdir()
    for seed, laws in ((0, "these"), (10, "these"), (1, "others")):
        (tmp_path / "foreign" / f"scipy-{seed}-{laws}.jsonl").write_text(json.dumps(ANSWER | {"seed": seed}) + "\n")
    monkeypatch.setattr(command, "VERSIONS", {"scipy": "1"})
    monkeypatch.setattr(command, "kept_answers", lambda library: asking.kept_answers(library, tmp_path))
    text = table.text({"scipy": "1"}, command.kept())
    assert f"| scipy | 1 | 1 | 2 | 84 | 0 | 4 {counts}" in text and text.startswith("# Right maps")
    assert ("| scipy | the library is wrong | norm.cdf |  |" in text) is listed_there


def test_the_table_has_every_library_and_no_false_alarm():
    text = table.TABLE.read_text(encoding="utf-8")
    assert "False alarms: 0." in text and all(f"\n| {library} | {version} |" in text for library, version in asking.VERSIONS.items())
