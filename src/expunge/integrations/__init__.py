"""Work with other libraries: callbacks for the user's own training, and folders for the Hugging Face hub."""
