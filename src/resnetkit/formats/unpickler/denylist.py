"""Names that a pickle only needs to execute something; files with one are rejected.

Nothing of a pickle is looked up or executed, so such a file is harmless here, but not to other
loaders. The list follows pickle scanners (picklescan, fickling): functions that start programs,
open files and connections, import, or get attributes.
"""

from __future__ import annotations

#: Modules that are rejected with all their submodules.
_MODULES = frozenset(
    "os nt posix sys subprocess commands popen2 pty socket ssl shutil tempfile runpy importlib imp "
    "pkgutil zipimport code codeop bdb pdb cProfile profile trace timeit doctest marshal shelve "
    "ctypes _ctypes cffi webbrowser httplib http.client http.server urllib.request urllib2 "
    "requests.api aiohttp.client httpx ftplib smtplib telnetlib xmlrpc asyncio pip ensurepip venv "
    "distutils setuptools pydoc idlelib lib2to3 linecache gc atexit _posixsubprocess fileinput "
    "unittest.mock logging.config torch.serialization torch.hub torch._dynamo torch._inductor "
    "torch.utils.cpp_extension torch.distributed.rpc numpy.testing numpy.f2py "
    "numpy.distutils".split()
)
#: Single names of other modules.
_NAMES = frozenset(
    "builtins.eval builtins.exec builtins.execfile builtins.compile builtins.open builtins.file "
    "builtins.getattr builtins.setattr builtins.delattr builtins.apply builtins.input "
    "builtins.__import__ builtins.breakpoint builtins.globals builtins.locals builtins.vars "
    "builtins.reload builtins.memoryview builtins.exit builtins.quit builtins.help "
    "operator.attrgetter operator.itemgetter operator.methodcaller operator.call "
    "_operator.attrgetter _operator.itemgetter _operator.methodcaller _operator.call "
    "types.CodeType types.FunctionType types.LambdaType new.code new.function "
    "copyreg.add_extension copyreg.pickle numpy.load numpy.loads numpy.save numpy.savetxt "
    "numpy.loadtxt numpy.fromfile numpy.memmap numpy.genfromtxt numpy.lib.npyio.load "
    "numpy.core.memmap.memmap torch.load torch.save torch.storage._load_from_bytes "
    "pandas.read_pickle pandas.io.pickle.read_pickle logging.FileHandler uuid._get_command_stdout "
    "io.open io.open_code io.FileIO _io.open _io.open_code _io.FileIO _io.file codecs.open "
    "pickle.load pickle.loads _pickle.load _pickle.loads dill.load dill.loads cloudpickle.load "
    "cloudpickle.loads joblib.load torch.jit.load inspect.getsource signal.signal requests.get "
    "requests.post site.main platform.popen platform._syscmd_ver getpass.getpass".split()
)


def is_attack(name: str) -> bool:
    """Whether ``module.name`` is on the list."""
    if name in _NAMES:
        return True
    parts = name.split(".")
    return any(".".join(parts[:count]) in _MODULES for count in range(1, len(parts) + 1))
