"""What is asked of the deployment as a whole: health, pools, emissions, deadlines, dead letters."""
