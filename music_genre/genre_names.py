"""Names of genres and artists as people and programs write them.

is_no_genre("Unknown")  # True: many programs write this where no genre is known
same_name_key("Hip-Hop") == same_name_key("hip hop")
"""

import re
import unicodedata

# In the form that `same_name_key` returns. They include what pandas reads as a missing value.
NAMES = (
    "unknown unknowngenre genreunknown none nogenre genre genres undefined unspecified unset "
    "notset unclassified unclassifiable uncategorized uncategorised untagged notavailable "
    "notapplicable missing empty blank default various variousgenres other others misc "
    "miscellaneous unbekannt sonstige sonstiges andere keine inconnu autre desconocido otros "
    "sconosciuto altro na nana nan null nil 1ind 1qnan tbd todo"
)
NO_GENRES = frozenset(NAMES.split())
UNKNOWN_ARTISTS = {"unknown", "unknownartist", "various", "variousartists", "va", "artist", "none"}
GUEST = re.compile(r"[\s(\[]+(feat|ft|featuring)\b.*", re.IGNORECASE | re.DOTALL)


def same_name_key(name: str) -> str:
    """Unify spellings: "Hip-Hop" and "hip hop", "Earth, Wind & Fire" and "Earth Wind and Fire".

    Letters, digits and vowel signs of every script are kept; "" stays "".
    """
    text = unicodedata.normalize("NFKC", name).casefold().replace("&", "and")
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN") or text.strip()


def artist_key(name: str) -> str:
    """`same_name_key` of the main artist; "" for "Various Artists" and the like."""
    key = same_name_key(GUEST.sub("", name))
    return "" if key in UNKNOWN_ARTISTS else key


def is_no_genre(text: str) -> bool:
    """Whether the text of a genre field means "no genre", such as "Unknown" or "-"."""
    key = same_name_key(text)
    return key in NO_GENRES or not any(c.isalnum() for c in key)
