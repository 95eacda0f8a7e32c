"""What runs inside the subprocesses of actions and sensors; on their path in StackStorm's stead."""
