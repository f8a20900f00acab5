"""python -m cxr_experiments.app: a page on this machine for people who look at films and reports, without a shell.

`asking` has the answers, by the very functions of `predict`; `kept_reports` finds the reports; `site` is the Flask
application, which knows neither Keras nor files; `server` puts it on 127.0.0.1.  Nothing uploaded is written anywhere.
"""
