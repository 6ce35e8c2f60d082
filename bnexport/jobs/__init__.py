"""What a user asks for. A job carries things between the rooms below it; they never meet without one."""
