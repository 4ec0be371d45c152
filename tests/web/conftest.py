import shutil

import pytest
from fastapi.testclient import TestClient

from partalign.search import PictureSearch
from partalign.web.access import Access, Role, new_token, read_tokens
from partalign.web.app import make_app
from partalign.web.limits import Limits
from web_gallery import make_gallery, write_model, write_people


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "light.safetensors")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def gallery(tmp_path_factory, model, people):
    """The folder of a gallery, to copy."""
    folder = tmp_path_factory.mktemp("made") / "gallery"
    make_gallery(folder, model, people).gallery.close()
    return folder


@pytest.fixture
def search(tmp_path, gallery, model):
    with PictureSearch.open(shutil.copytree(gallery, tmp_path / "gallery"), model) as search:
        yield search


@pytest.fixture
def client(search):
    """The local user's."""
    with TestClient(make_app(search), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def tokens(tmp_path):
    """A file with a token for each role; role -> token."""
    return tmp_path / "tokens.txt", {role: new_token(tmp_path / "tokens.txt", role, role.name) for role in Role}


@pytest.fixture
def doors(search, tokens):
    """A server that asks for tokens: make(role or None, **limits) -> client."""
    path, secrets = tokens

    def make(role=None, hosts=None, **limits):
        app = make_app(search, Access(read_tokens(path), hosts=hosts), Limits(**limits))
        headers = {} if role is None else {"Authorization": f"Bearer {secrets[role]}"}
        return TestClient(app, base_url="http://localhost", headers=headers, raise_server_exceptions=False)

    return make
