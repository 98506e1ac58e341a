"""From any GTZAN archive to a `datasets` Audio dataset. Run: python -m data_prep --help"""


class InputError(ValueError):
    """Something a person gave cannot be used. The message tells them what is wrong and what to do;

    the command lines print it as it is and exit with 2, the app shows it in the page.
    """
