"""The stage ``report``: an HTML page about the run."""

from typing import TYPE_CHECKING, Any

from plaudit.stages.base import Stage

if TYPE_CHECKING:
    from plaudit.config.schema import ReportConfig
    from plaudit.runs.context import StageContext
    from plaudit.runs.directory import StageDirectory


class ReportStage(Stage["ReportConfig"]):
    """Writes an HTML page from the run's files. It always runs again, because other stages may have new results."""

    name = "report"
    title = "Report"
    help = "Write the HTML page about a run."
    example = "plaudit report quickstart report.title='A polite concierge'"
    repeats = True
    files = ("report.html",)

    def section(self) -> "type[ReportConfig]":
        """Return the section."""
        from plaudit.config.schema import ReportConfig

        return ReportConfig

    def run(self, context: "StageContext[ReportConfig]") -> dict[str, Any]:
        """Write the page."""
        if not context.session.is_main:
            return {}
        from plaudit.reporting.page import write_report

        return {"page": str(write_report(context.session.run.folder, context.config))}

    def show(self, directory: "StageDirectory") -> None:
        """Print the path of the page."""
        from plaudit.log import new_console

        new_console().print(f"report: {directory.result()['page']}", markup=False, soft_wrap=True)


STAGE = ReportStage()
