# All that is taken of Snakemake beside its documented interface; tests/workflow/test_snakemake.py
# has a test of each.

# The process that plans, and not one that a cluster starts for a job.
PLANNING = workflow.is_main_process

# What `--config` and `--configfile` gave.
GIVEN = dict(workflow.config_settings.config)
GIVEN_FILES = [*workflow.config_settings.configfiles]


def files_read():
    """Every file that the configuration was read from so far."""
    return workflow.configfiles


def limit(resource, most):
    """As many of a resource as there are, unless the command line says it."""
    workflow.global_resources.setdefault(resource, most)


def tell_jobs(key, value):
    """Processes of jobs elsewhere get it as `--config` does."""
    config[key] = value
    workflow.config_settings.config_args = [
        *workflow.config_settings.config_args,
        f"{key}='{value}'",
    ]
