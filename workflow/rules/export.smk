EXPORTED = "results/{dataset}/exported/{run}/ipc{ipc}/gen{gen}"


# `snakemake export`: every distilled set of the configuration, for use outside of it.
rule export:
    input:
        LAYOUT.cards(),


# The pictures themselves are not declared, they can be 50,000: SHA256SUMS lists them.
rule export_set:
    input:
        images=f"{DISTILLED}/images.safetensors",
        manifest=f"{DISTILLED}/manifest.parquet",
    output:
        card=f"{EXPORTED}/README.md",
        tensors=f"{EXPORTED}/distilled.safetensors",
        sums=f"{EXPORTED}/SHA256SUMS",
    log:
        "results/logs/{dataset}/{run}/export_ipc{ipc}_gen{gen}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["export"],
        context=card_context,
        folder=lambda wildcards: EXPORTED.format(**wildcards),
    shell:
        "mgd3 export --distilled {input.images:q} --manifest {input.manifest:q}"
        " --context {params.context:q} --output {params.folder:q} > {log:q} 2>&1"
