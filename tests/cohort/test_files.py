"""What a killed run leaves beside a file."""

import subprocess
import sys

from monai_cxrpair.cohort.files import atomic_path


def test_what_a_killed_run_left_of_a_file_goes_with_the_next_write_and_what_another_one_writes_stays(tmp_path):
    left, other, named = (tmp_path / name for name in (".t.csv.ab12_xyz.tmp", ".u.csv.ab12_xyz.tmp", ".t.csv.tmp"))
    for path in (left, other, named):
        path.write_text("half")
    with atomic_path(tmp_path / "t.csv") as mine:
        with atomic_path(tmp_path / "t.csv") as second:  # as two processes at once
            second.write_text("second")
        mine.write_text("first")
    assert (tmp_path / "t.csv").read_text() == "first"
    assert not left.exists()
    assert other.read_text() == named.read_text() == "half"


def test_the_temporary_file_of_a_process_that_lives_is_not_taken_for_a_leftover(tmp_path):
    write = "import sys; from pathlib import Path; from monai_cxrpair.cohort.files import atomic_path\n"
    write += "with atomic_path(Path(sys.argv[1])) as t: t.write_text(sys.argv[2])"
    target = tmp_path / "t.csv"
    with atomic_path(target) as mine:
        mine.write_text("mine")
        subprocess.run([sys.executable, "-c", write, str(target), "theirs"], check=True)
        assert mine.read_text() == "mine"
        assert target.read_text() == "theirs"
    assert target.read_text() == "mine"
