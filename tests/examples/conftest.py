"""One small exported classifier for the examples."""

import pytest

from support.exported_classifier import export_classifier


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "classifier.onnx"
    export_classifier(path)
    return path
