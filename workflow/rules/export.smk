EXPORTED = "results/{dataset}/exported/{run}/ipc{ipc}/gen{gen}~{id}"


# `snakemake export`: every distilled set of the configuration, for use outside of it.
rule export:
    input:
        [*map(timed, LAYOUT.cards())],


# The pictures themselves are not declared, they can be 50,000: SHA256SUMS lists them.
rule export_set:
    input:
        images=reads(JOBS.in_set("images.safetensors")),
        manifest=reads(JOBS.in_set("manifest.parquet")),
    output:
        card=f"{EXPORTED}/README.md",
        tensors=f"{EXPORTED}/distilled.safetensors",
        sums=f"{EXPORTED}/SHA256SUMS",
    log:
        "results/logs/{dataset}/{run}/export_ipc{ipc}_gen{gen}~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        context=JOBS.card_context,
        folder=folder_of,
    shell:
        "mgd3 export --distilled {input.images:q} --manifest {input.manifest:q}"
        " --context {params.context:q} --identity {params.identity:q} --output {params.folder:q} > {log:q} 2>&1"
