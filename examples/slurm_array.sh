#!/bin/bash
# An ingest by a SLURM job array: begun once, done in parts, committed at the end.
#
#     SOURCE=s3://bucket/store.zarr TARGET=s3://bucket/store.icechunk PARTS=64 bash slurm_array.sh
#
# Besides the target, only $RUN is written; put it on a file system that all nodes share. Parts may
# fail, be requeued or run twice. After a failure run the script again: it keeps what is done.
set -euo pipefail

SOURCE=${SOURCE:?the Zarr store} TARGET=${TARGET:?the Icechunk repository}
PARTS=${PARTS:-64} RUN=${RUN:-$PWD/run.json}

# Makes the first commit, which readers do not see, and writes the plan of the rest.
refreeze plan "$SOURCE" "$TARGET" --output "$RUN"

# Credentials come from the nodes' role or environment: the plan holds none.
array=$(sbatch --parsable --job-name refreeze --array "0-$((PARTS - 1))" --requeue \
    --cpus-per-task 2 --mem 1G --time 02:00:00 \
    --wrap "refreeze work '$RUN' --part \$SLURM_ARRAY_TASK_ID/$PARTS")

# Publishes when all parts are done; otherwise says which are missing, and fails.
sbatch --parsable --job-name refreeze-commit --dependency "afterok:$array" \
    --cpus-per-task 2 --mem 1G --time 01:00:00 --wrap "refreeze commit '$RUN'"
