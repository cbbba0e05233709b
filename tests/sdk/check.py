"""Uses a sandbox with the official SDK, which refuses every answer that differs from its types.

The variables OPENAI_BASE_URL and OPENAI_ADMIN_KEY name the sandbox.
"""

import os

import openai

client = openai.OpenAI(
    api_key="unused",
    admin_api_key=os.environ["OPENAI_ADMIN_KEY"],
    max_retries=0,
    _strict_response_validation=True,
)
organization = client.admin.organization
projects = organization.projects
accounts = projects.service_accounts


def refused(error, call, *arguments, **named):
    """Checks that a call fails with this error of the SDK, and returns the error."""
    try:
        call(*arguments, **named)
    except error as raised:
        return raised
    raise AssertionError(f"{call} was not refused")


def client_with(key):
    """Returns a client with the secret of a project's key."""
    return openai.OpenAI(api_key=key, max_retries=0, _strict_response_validation=True)


def check_admin_keys():
    keys = organization.admin_api_keys
    made = [keys.create(name=f"key {number}", expires_in_seconds=3600) for number in range(7)]
    assert made[0].value.startswith("sk-admin-") and made[0].expires_at
    listed = [key.id for key in keys.list(limit=3)]
    assert listed[-7:] == [key.id for key in made], "all pages, in order"
    newest = [key.id for key in keys.list(limit=3, order="desc")]
    assert newest == listed[::-1]
    for key in made:
        assert keys.retrieve(key.id).name == key.name
        assert keys.delete(key.id).deleted
        refused(openai.NotFoundError, keys.retrieve, key.id)
    refused(openai.BadRequestError, keys.create, name="x", expires_in_seconds=0)


def check_projects():
    made = [projects.create(name=f"project {number}") for number in range(7)]
    listed = [project.id for project in projects.list(limit=3)]
    assert listed[-7:] == [project.id for project in made]
    last = made[-1].id
    assert projects.archive(last).status == "archived"
    assert projects.retrieve(last).archived_at
    assert last not in [project.id for project in projects.list()]
    assert last in [project.id for project in projects.list(include_archived=True)]
    refused(openai.BadRequestError, accounts.create, last, name="x")
    refused(openai.NotFoundError, projects.retrieve, "proj_none")
    return made[0].id


def check_accounts(project):
    made = [accounts.create(project, name=f"account {number}") for number in range(7)]
    assert all(account.api_key.value.startswith("sk-svcacct-") for account in made)
    listed = [account.id for account in accounts.list(project, limit=3)]
    assert listed == [account.id for account in made]
    assert accounts.retrieve(listed[0], project_id=project).name == "account 0"
    assert accounts.update(listed[0], project_id=project, name="other").name == "other"
    alone = accounts.create(project, name="alone", create_service_account_only=True)
    assert alone.api_key is None and alone.role == "none"
    for account in made:
        assert accounts.delete(account.id, project_id=project).deleted
        key = client_with(account.api_key.value)
        refused(openai.AuthenticationError, key.models.list)


def check_keys(project):
    account = accounts.create(project, name="owner", expires_in_seconds=3600)
    assert account.api_key.expires_at
    create = accounts.api_keys.create
    made = [
        create(account.id, project_id=project, name=f"key {number}", expires_in_seconds=3600)
        for number in range(7)
    ]
    keys = projects.api_keys
    listed = [key.id for key in keys.list(project, limit=3, owner_project_access="any")]
    assert listed == [account.api_key.id] + [key.id for key in made]
    shown = keys.retrieve(made[0].id, project_id=project)
    assert shown.owner.service_account.id == account.id and shown.expires_at
    later = keys.update(made[0].id, project_id=project, expires_in_seconds=7200)
    assert later.expires_at > shown.expires_at

    assert list(client_with(made[0].value).models.list())
    keys.update(made[0].id, project_id=project, scopes=["api.files.read"])
    limited = refused(openai.APIStatusError, client_with(made[0].value).models.list)
    assert limited.status_code in (401, 403) and "api.model.read" in limited.message
    for key in made:
        assert keys.delete(key.id, project_id=project).deleted
        refused(openai.NotFoundError, keys.retrieve, key.id, project_id=project)
        refused(openai.AuthenticationError, client_with(key.value).models.list)
    assert accounts.retrieve(account.id, project_id=project).id == account.id


check_admin_keys()
project_id = check_projects()
check_accounts(project_id)
check_keys(project_id)
print(f"openai {openai.__version__} sees no difference")
