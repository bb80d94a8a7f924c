"""MONAI Label 0.8.5 beside pydicom 3: the one module that pydicom 3 no longer has.

MONAI Label imports `pydicom_seg`, which imports `pydicom._storage_sopclass_uids`; pydicom 3 keeps what stood there in
`pydicom.uid`. This file imports nothing of ours, so that it can be copied: run with the label environment's Python it
puts a copy of itself and a `.pth` file into site-packages. Python runs that at every start, so the server finds the
module however it is called, and so do the processes that it starts for training and scoring. It costs nothing until
somebody asks for a module that does not exist.
"""

import importlib.machinery
import sys
import types

MODULE = "pydicom._storage_sopclass_uids"
NAME = "cxrpair_pydicom_shim"  # of the copy in site-packages


class _PydicomFinder:
    """Finds the one missing module, after everybody else has been asked."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Say where the module is; None for any other."""
        return importlib.machinery.ModuleSpec(name, _PydicomFinder()) if name == MODULE else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module."""
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill it with the names of the storage classes."""
        import pydicom.uid

        names = vars(pydicom.uid).items()
        module.__dict__.update({name: uid for name, uid in names if name.endswith(("Storage", "Presentation"))})


def activate() -> None:
    """Stand in for the missing module in this process."""
    # by name, since the copy in site-packages has a class of its own
    if not any(getattr(finder, "__name__", "") == _PydicomFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_PydicomFinder)  # the methods are what the import system needs


def install(folder: str) -> None:
    """Put the stand-in where Python runs it at every start.

    Args:
        folder: site-packages of the environment.
    """
    import os
    import shutil

    shutil.copyfile(__file__, os.path.join(folder, f"{NAME}.py"))
    with open(os.path.join(folder, f"{NAME}.pth"), "w", encoding="utf-8") as file:
        file.write(f"import {NAME}\n")


if __name__ == "__main__":
    import sysconfig

    install(sysconfig.get_path("purelib"))
elif __name__ == NAME:
    activate()
