"""The version of the package: that of the installed distribution, which its build takes from the latest tag."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version of the installed package, or "0+unknown" for a folder of sources that was never installed."""
    try:
        return version("expunge")
    except PackageNotFoundError:
        return "0+unknown"


__version__ = installed_version()
