"""Human study: a blind questionnaire over stores, the pages to answer it, its analysis."""
