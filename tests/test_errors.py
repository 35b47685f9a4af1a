"""A user's mistake is one line, in Jupyter too."""

from IPython.core.interactiveshell import InteractiveShell


def test_jupyter_shows_the_line_and_no_traceback(capsys):
    shell = InteractiveShell()
    shell.run_cell("from biomeg_lib.errors import InputError\nraise InputError('a.txt', 'expected b, found c', 3)")
    shown = capsys.readouterr().out
    assert shown.strip() == "InputError: a.txt:3: expected b, found c"
    shell.run_cell("1 / 0")
    assert "Traceback" in capsys.readouterr().out
