"""Under which licence a data set is, and who is to be credited."""

from typing import NamedTuple

from keras_genai.data.base import DataError


class Licence(NamedTuple):
    """What a published entry says of its data."""

    licence: str
    credit: str


_FONTS = Licence(
    "those of the fonts: Bitstream Vera (DejaVu), STIX Font License, BaKoMa Fonts Licence",
    "drawn by this package with fonts of Matplotlib: DejaVu (Bitstream, the DejaVu authors), STIX "
    "(the STI Pub Companies), Computer Modern (Basil K. Malyshev)",
)
_PYTHON = Licence("PSF License 2", "Python Software Foundation")

LICENCES = {
    "mnist": Licence("CC BY-SA 3.0", "Yann LeCun, Corinna Cortes, Christopher J. C. Burges"),
    "fashion_mnist": Licence("MIT", "Zalando SE (Han Xiao, Kashif Rasul, Roland Vollgraf)"),
    "tiny_shakespeare": Licence(
        "Public domain", "William Shakespeare; compiled by Andrej Karpathy (char-rnn)"
    ),
    "glyphs": _FONTS,
    "digits": _FONTS,
    "shapes": Licence("Apache 2.0", "drawn by this package"),
    "pydocs": _PYTHON,
    "stdlib": _PYTHON,
    "tastes": Licence("Apache 2.0", "made up by this package"),
}


def licence_of(name: str, licence: str | None = None, credit: str | None = None) -> Licence:
    """The licence of the data set `name`: as given, or as the table has it.

    Raises:
        DataError: If the table does not have it, and only half or nothing was given.
    """
    if licence and credit:
        return Licence(licence, credit)
    if licence or credit or name not in LICENCES:
        raise DataError(
            "Say under which licence the data are and who made them, with --licence and --credit; "
            f"both are known of {', '.join(LICENCES)} only. "
            f"Received: data={name!r}, licence={licence!r}, credit={credit!r}"
        )
    return LICENCES[name]
