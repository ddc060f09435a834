"""The deployment's files as they are read: compose projects and Kubernetes objects."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = shutil.which("kubectl")
Document = dict[str, Any]


def compose(*overrides: Path) -> Document:
    """A compose project, each override laid over it: mappings key by key, anything else replaced."""
    project = _read(COMPOSE)
    for override in overrides:
        project = _laid_over(project, _read(override))
    return project


def base() -> list[Document]:
    """The objects of the base with what the components add: none of their files is patched, so they are read as are."""
    folders = [KUBERNETES / "base", *sorted((KUBERNETES / "components").iterdir())]
    return [document for folder in folders for document in _listed(folder)]


def rendered(folder: Path) -> list[Document]:
    """The objects that `kubectl apply -k` would send. Needs kubectl, and no cluster."""
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def place(document: Document, path: str, value: object) -> None:
    """Set what is at `path`: keys and indices separated by spaces; None removes it."""
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split()]
    holder: Any = document
    for part in parents:
        holder = holder[part]
    if value is None:
        del holder[last]
    elif isinstance(holder, list) and last == len(holder):
        holder.append(value)
    else:
        holder[last] = value


def _listed(folder: Path) -> list[Document]:
    kustomization = _read(folder / "kustomization.yaml")
    unread = kustomization.keys() - {"apiVersion", "kind", "resources"}
    assert not unread, f"{folder.name}: {unread} would have to be rendered"
    texts = [(folder / name).read_text(encoding="utf-8") for name in kustomization["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def _read(path: Path) -> Document:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict), path
    return document


def _laid_over(below: Document, above: Document) -> Document:
    both = below.keys() & above.keys()
    merged = {
        name: _laid_over(below[name], above[name])
        for name in both
        if isinstance(below[name], dict) and isinstance(above[name], dict)
    }
    return below | above | merged
