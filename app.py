"""The web demo: drop a song, record one or let it listen, and see which genre it is.

    python app.py                                  # MODEL_ID, or else the newest run in runs/
    python app.py --model runs/distilhubert-gtzan
    python app.py --model you/distilhubert-gtzan --revision v1 --port 7861
    python app.py --host 0.0.0.0                   # also for other machines: docs/serving.md

A Space runs it unchanged, with MODEL_ID in its settings. Programs call /classify and
/classify_batch; "Use via API" at the foot of the page shows how.
"""

import argparse
import os
import signal
import tempfile

from music_genre.errors import InputError, exit_with_message
from music_genre.report import is_demonstration, newest_run


def main() -> None:
    arguments = parse_arguments()
    # A stopped container or service ends as after Ctrl-C, so that no uploads are left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Set this before torch is imported: spinning threads would slow down other visitors' answers.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parent = os.path.abspath(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    os.makedirs(parent, exist_ok=True)
    with exit_with_message("Stopped."), tempfile.TemporaryDirectory(dir=parent) as uploads:
        # This folder belongs to this process: uploads in it are deleted by age, and the folder is
        # removed when the app exits.
        os.environ["GRADIO_TEMP_DIR"] = uploads
        model_id = arguments.model or os.environ.get("MODEL_ID") or default_model()

        from music_genre import GenreClassifier
        from music_genre.demo.about import model_line
        from music_genre.demo.page import build
        from music_genre.demo.server import serve

        classifier = GenreClassifier(model_id, arguments.revision)
        n_labels = len(classifier.labels)
        print(f"{model_line(classifier)}, {n_labels} labels, on {classifier.device}.", flush=True)
        page = build(classifier)
        try:
            serve(
                page,
                uploads,
                server_name=arguments.host,
                server_port=arguments.port,
                root_path=arguments.root_path,
            )
        except OSError as error:
            port = arguments.port or "from 7860 to 7959"
            raise InputError(
                f"Port {port} is taken or not allowed: choose another with --port, and give an "
                "address of this machine as --host."
            ) from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--port", type=port, help="default: the first free one from 7860 on")
    parser.add_argument("--host", help="address to listen on; default: this machine only")
    parser.add_argument("--root_path", help="path of the page behind a proxy, such as /genre")
    return parser.parse_args()


def port(text: str) -> int:
    if not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text}")
    return int(text)


def default_model() -> str:
    """The newest finished run; prints which one that is and why."""
    run = newest_run()
    if run is None:
        raise InputError(
            "There is no finished run in runs/: `accelerate launch train_hf.py` makes one, or name "
            "a model by --model DIR_OR_HUB_ID."
        )
    why = "the newest run on real music"
    if is_demonstration(run):
        why = "a demonstration on synthesised music, as there is no run on real music"
    print(f"Serving {run}: {why}.", flush=True)
    return str(run)


if __name__ == "__main__":
    main()
