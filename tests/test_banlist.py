"""What the package may never do, read from its syntax trees: run code out of data, load torch.

The first part names the rule and shows that the scanner sees each way of breaking it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "firefront"
FILES = sorted(SOURCE.rglob("*.py"))

BANNED_MODULES = {
    "pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
    "passlib", "jose", "slowapi", "litellm", "huggingface_hub", "transformers",
}  # fmt: skip
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_ATTRIBUTES = {
    "recv_pyobj", "send_pyobj", "allow_pickle", "trust_remote_code", "extractall", "mktemp",
    "BaseHTTPMiddleware",
}  # fmt: skip
BANNED_CALLS = {"torch.load", "os.system", "os.popen", "yaml.load", "numpy.load", "np.load"}
TORCH_FOLDERS = {"backends/torch", "backends/triton", "tuning", "images"}
TEMPLATE_FILE = "text/template.py"


def violations(text: str, name: str) -> list[str]:
    """Broken rules in the source `text` of the file `name` (relative to the package)."""
    found = []
    takes_torch = any(name.startswith(folder + "/") for folder in TORCH_FOLDERS)
    for node in ast.walk(ast.parse(text)):
        for module in _imported(node):
            root = module.partition(".")[0]
            if root in BANNED_MODULES or (root in ("torch", "triton") and not takes_torch):
                found.append(f"{name}:{node.lineno}: imports {module}")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            short = called.rpartition(".")[2]
            if called in BANNED_NAMES | BANNED_CALLS:
                found.append(f"{name}:{node.lineno}: calls {called}")
            if (
                short in ("Environment", "Template", "SandboxedEnvironment")
                and name != TEMPLATE_FILE
            ):
                found.append(f"{name}:{node.lineno}: templates belong in {TEMPLATE_FILE}")
            for keyword in node.keywords:
                if keyword.arg == "shell" and not _is_false(keyword.value):
                    found.append(f"{name}:{node.lineno}: calls {called} with a shell")
                if keyword.arg == "verify" and _is_false(keyword.value):
                    found.append(f"{name}:{node.lineno}: switches certificate checks off")
                if keyword.arg in BANNED_ATTRIBUTES:
                    found.append(f"{name}:{node.lineno}: passes {keyword.arg}")
        if isinstance(node, ast.Attribute | ast.Name):
            word = node.attr if isinstance(node, ast.Attribute) else node.id
            if word in BANNED_ATTRIBUTES:
                found.append(f"{name}:{node.lineno}: uses {word}")
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_package_keeps_the_rules(path: Path) -> None:
    assert violations(path.read_text(), path.relative_to(SOURCE).as_posix()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch",
        "from torch.nn import Module",
        "eval('1')",
        "exec(x)",
        "torch.load(p)",
        "numpy.load(p, allow_pickle=True)",
        "jinja2.Environment()",
        "Environment()",
        "subprocess.run(x, shell=True)",
        "socket.recv_pyobj()",
        "archive.extractall()",
        "httpx2.Client(verify=False)",
        "load(trust_remote_code=True)",
    ],
)
def test_scanner_sees_each_violation(text: str) -> None:
    assert violations(text, "engine/x.py")


def test_scanner_allows_what_is_meant() -> None:
    assert violations("SandboxedEnvironment()", TEMPLATE_FILE) == []
    assert violations("import torch", "backends/torch/x.py") == []
    assert violations("re.compile('x')\nmodel.eval()\n", "engine/x.py") == []


def test_importing_everything_loads_no_torch() -> None:
    modules = [
        ".".join(("firefront", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in FILES
        if path.name not in ("__init__.py", "__main__.py")
        and not any(path.relative_to(SOURCE).as_posix().startswith(f) for f in TORCH_FOLDERS)
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        print('not imported:', name, error, file=sys.stderr)\n"
        "bad = {'torch', 'transformers', 'triton', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(bad)}' if bad else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE.parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
