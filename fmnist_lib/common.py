"""What all errors have in common that a user can cause."""


class UserError(Exception):
    """An error whose message is for users, and says what to do: no traceback is needed.

    Attributes
    ----------
    exit_code : int
        Of the command that ends with it.
    """

    exit_code = 1
