"""Step 2 of SGID: from described samples to requests, and from requests to images."""
