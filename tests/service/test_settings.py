"""Settings from the command line and the environment."""

import pytest

from service.settings import SettingsError, read_settings


def test_the_command_line_wins_over_the_environment() -> None:
    environment = {"STEELYARD_PORT": "1", "STEELYARD_MAX_TOKENS": "77", "PATH": "/bin"}
    settings = read_settings(["--port", "2"], environment)
    assert (settings.port, settings.max_tokens) == (2, 77)


def test_models_are_named_and_repeatable() -> None:
    settings = read_settings(["--model", "a=/x=y", "--model", "b=ORG/REPO@main"], {})
    assert settings.models == {"a": "/x=y", "b": "ORG/REPO@main"}
    assert read_settings([], {"STEELYARD_MODEL": "a=/x b=/y"}).models == {"a": "/x", "b": "/y"}


def test_without_a_model_one_of_each_family_is_served() -> None:
    assert list(read_settings([], {}).models) == ["visualprm", "ixc_reward"]


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ([], {"STEELYARD_PROT": "1"}, "STEELYARD_PROT"),
        (["--prot", "1"], {}, "--prot"),
        (["--port", "70000"], {}, "--port"),
        (["--port", "eight"], {}, "--port"),
        ([], {"STEELYARD_PORT": "-1"}, "STEELYARD_PORT"),
        ([], {"STEELYARD_API_KEY": ""}, "STEELYARD_API_KEY"),
        (["--api-key", ""], {}, "--api-key"),
        (["--admin-key", " "], {}, "--admin-key"),
        (["--model", "nameless"], {}, "'nameless'"),
        (["--model", "a=/x", "--model", "a=/y"], {}, "twice"),
        (["--device", "tpu"], {}, "--device"),
        (["--queue", "carrier-pigeon"], {}, "carrier-pigeon"),
        (["--max-body-bytes", "0"], {}, "--max-body-bytes"),
    ],
)
def test_a_wrong_setting_is_named(arguments: list[str], environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments, environment)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_of_the_clients_is_not_the_servers_business() -> None:
    assert read_settings([], {"STEELYARD_URL": "http://127.0.0.1:9"}) == read_settings([], {})
