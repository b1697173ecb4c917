"""Settings of the command line under which an experiment takes a second or two."""

FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
NET = "--model.hidden 16 8 --model.embedding-dim 4 --model.init-scale 0.05"
TRAINING = "--training.batch-size 256 --training.epochs 2 --pruning.rounds 2"
RIVALS = (
    "--model.dcrnn.length 2 --model.dcrnn.interval 1 --model.dcrnn.hidden 4"
    " --model.mmoe.experts 2 --model.mmoe.expert-hidden 8 4"
    " --model.ple.shared-experts 1 --model.ple.task-experts 1"
    " --model.ple.expert-hidden 8 4"
)
TINY = f"{FEED} --data.feed.days 4 {NET} {RIVALS} {TRAINING} --no-report".split()
ONCE = "--training.epochs 1 --pruning.rounds 1 --pruning.epochs 1"
