import pytest

from fmnist_lib.claims import ClaimError, claim, claim_between


def test_a_claim_that_holds_is_printed(capsys):
    claim("shirts do worst", True)
    claim_between("the accuracy", 0.905, 0.89, 0.92)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["✓ shirts do worst", "✓ the accuracy lies between 0.89 and 0.92"]


def test_a_claim_that_fails_stops():
    with pytest.raises(ClaimError, match="does not bear out the claim 'shirts do worst'"):
        claim("shirts do worst", False)


def test_a_claim_about_seconds_stops_nothing(capsys):
    claim("shirts are fast", True, timing=True)
    claim("shirts are fast", False, timing=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["✓ shirts are fast", "✗ shirts are fast: not on this machine this time"]


@pytest.mark.parametrize("value", [0.889, 0.921, float("nan")])
def test_a_value_outside_its_band_stops(value):
    with pytest.raises(ClaimError, match=r"the accuracy is .*, expected between 0.89 and 0.92"):
        claim_between("the accuracy", value, 0.89, 0.92)


def test_both_ends_belong_to_the_band():
    claim_between("the accuracy", 0.89, 0.89, 0.92)
    claim_between("the accuracy", 0.92, 0.89, 0.92)


def test_a_claim_about_other_settings_is_not_checked(capsys):
    claim("shirts do worst", False, applies=False)
    claim_between("the accuracy", 0.1, 0.89, 0.92, applies=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("not checked" in line and line.startswith("○") for line in lines)
