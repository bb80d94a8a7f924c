import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.phantom import write_phantom


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_radiograph_in_an_archive_is_read_like_the_file(tmp_path: Path, suffix: str) -> None:
    write_phantom(tmp_path / "plain", patients=3, file_format="dicom", seed=3)
    archive = tmp_path / "packed" / f"export{suffix}"
    archive.parent.mkdir()
    files = sorted(path for path in (tmp_path / "plain").rglob("*.dcm"))
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for file in files:
                opened.write(file, file.relative_to(tmp_path / "plain").as_posix())
    else:
        with tarfile.open(archive, "w:gz" if suffix.endswith("gz") else "w") as tar:
            for file in files:
                tar.add(file, file.relative_to(tmp_path / "plain").as_posix())
    cohort = index_source(archive, out=tmp_path / "c.parquet").cohort
    assert len(cohort) == len(files)
    for path in reversed(cohort.paths()):
        plain = tmp_path / "plain" / path.relative_to(archive)
        np.testing.assert_array_equal(read_radiograph(path), read_radiograph(plain))
    assert sorted(archive.parent.iterdir()) == [archive]


def test_what_is_not_in_the_archive_is_one_line(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a", b"hello")
    with pytest.raises(CxrPairError, match=r"x\.zip/b: cannot be opened \(no such file in x\.zip\)"):
        read_radiograph(archive / "b")
